"""The JSON schema that editors read, the examples of the project, and the view that keys are made of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from builder.recipe import json_schema, load
from builder.recipe.serving import DynamicBatching, InstanceGroup, Serving
from builder.recipe.triton import DERIVED
from builder.tools import triton_proto
from tests.recipe.conftest import MINIMAL

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "recipes").glob("*.yaml"))
REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def data(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


class TestExamples:
    def test_they_are_there(self):
        assert {path.name for path in EXAMPLES} >= {"minilm-embedder.yaml", "tiny-classifier.yaml"}

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
    def test_each_loads_fits_the_schema_and_is_named_like_its_file(self, path):
        assert load(path).name == path.stem
        VALIDATOR.validate(data(path.read_text(encoding="utf-8")))

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
    def test_each_tells_editors_where_the_schema_is(self, path):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first == "# yaml-language-server: $schema=recipe.schema.json"


class TestJsonSchema:
    def test_it_is_a_schema_of_the_stated_draft(self):
        jsonschema.Draft202012Validator.check_schema(json_schema())
        assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"

    def test_every_key_is_described(self):
        schema = json_schema()
        kinds = {"Recipe": schema["else"], "Composed": schema["then"], **schema["$defs"]}
        assert all(
            "steps" in kinds[kind]["properties"] or "models" in kinds[kind]["properties"]
            for kind in ("Pipeline", "Composed")
        )
        bare = [
            f"{kind}.{key}"
            for kind, value in kinds.items()
            for key, entry in value.get("properties", {}).items()
            if not (
                entry.get("description") or kinds[entry.get("$ref", "#/$defs/Recipe").split("/")[-1]].get("description")
            )
            or (not entry.get("description") and "$ref" not in entry)
        ]
        assert bare == []

    def test_the_committed_file_is_up_to_date(self):
        done = subprocess.run(
            [sys.executable, ROOT / "scripts/generate", "--check"], check=False, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_a_stale_file_is_found_and_mended(self, tmp_path):
        committed = tmp_path / "recipes/recipe.schema.json"
        committed.parent.mkdir()
        committed.write_text("{}", encoding="utf-8")
        command = [sys.executable, ROOT / "scripts/generate", "--root", tmp_path]
        check = subprocess.run([*command, "--check"], check=False, capture_output=True, text=True)
        assert check.returncode == 1
        assert "recipes/recipe.schema.json is not up to date: run scripts/generate" in check.stderr
        assert committed.read_text(encoding="utf-8") == "{}"
        assert subprocess.run(command, check=False, capture_output=True).returncode == 0
        assert committed.read_bytes() == (ROOT / "recipes/recipe.schema.json").read_bytes()

    def test_a_recipe_of_several_models_has_its_own_schema(self):
        several = "schema_version: 1\nname: a\nmodels: {a: {source: {path: m}, task: sentence-embedding}}\n"
        steps = "pipeline: {steps: {t: {tokenizer: a}, a: {model: a}}, outputs: [EMBEDDING]}\n"
        VALIDATOR.validate(data(several + steps))
        for wrong in (
            several,
            several + steps + "task: sentence-embedding\n",
            several + steps.replace("model:", "modl:"),
        ):
            with pytest.raises(jsonschema.ValidationError):
                VALIDATOR.validate(data(wrong))

    @pytest.mark.parametrize(
        "more",
        [
            "targets: {cpu: {runtime: onnxruntime, hardware: local}}",
            "targets: {cpu: {runtime: onnxruntime, hardware: {vcpus: 1}, triton: '24.12'}}",
            "targets: {t4: {runtime: tensorrt, precision: int8, hardware: {gpus: [T4, A10G]}}}",
            "serving: {dynamic_batching: false, version_policy: {latest: {num_versions: 1}}, max_batch_size: null}",
            "serving: {config: {model_operations: {op_library_filename: [a]}}, parameters: {a: b}}",
            "inputs: {buckets: [1, 2]}",
        ],
    )
    def test_what_loads_fits(self, good, more):
        assert good(more + "\n")
        VALIDATOR.validate(data(MINIMAL + more))

    @pytest.mark.parametrize(
        "more",
        [
            "nam: x",
            "name: a/b",
            "task: other",
            "schema_version: 2",
            "source: {hub: a/b, revision: main}",
            f"source: {{hub: a/b, revision: {REVISION}, path: x}}",
            "source: {path: ''}",
            "source: {architecture: {config: 3, tokenizer: t}}",
            "inputs: {max_length: '1'}",
            "inputs: {max_length: 1.5}",
            "inputs: {buckets: []}",
            "targets: {}",
            "targets: {cpu: {}}",
            "targets: {cpu: {runtime: tensorrt, precision: fp12}}",
            "targets: {cpu: {runtime: tensorrt, hardware: {gpu: T4}, engine: {optimization_level: 6}}}",
            "shapes: {profiles: []}",
            "targets: {cpu: {runtime: onnxruntime, triton: 25.09}}",
            "targets: {cpu: {runtime: onnxruntime, hardware: remote}}",
            "targets: {cpu: {runtime: onnxruntime, hardware: {gpus: []}}}",
            "serving: {dynamic_batching: true}",
            "serving: {version_policy: {}}",
            "serving: {version_policy: {all: {}, latest: {}}}",
            "serving: {parameters: {a: 1}}",
            "verify: {constraints: {p99_ms: 0}}",
            "package: {formats: [zip]}",
            "handoff: {}",
        ],
    )
    def test_what_does_not_load_does_not_fit(self, bad, more):
        changed = {**data(MINIMAL), **data(more)}
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate(changed)
        assert bad(json.dumps(changed), base="")  # JSON is YAML


class TestKeyed:
    def test_it_is_json_and_the_same_every_time(self, good):
        assert json.loads(json.dumps(good().keyed(), allow_nan=False)) == good().keyed()

    def test_comments_order_spelling_and_description_change_nothing(self, good):
        first = good("inputs: {max_length: 8, text_pair: false}\n").keyed()
        assert good("description: x\n# y\ninputs:\n  text_pair: False\n  max_length: 0x8\n").keyed() == first
        assert good('shapes: {batch: {min: 1}}\n"inputs": {"max_length": 8}\n').keyed() == first

    @pytest.mark.parametrize(
        "override",
        [
            "name=b",
            "task=text-classification",
            "source.allow.pickle=true",
            "source.path=other",
            "inputs.max_length=9",
            "shapes.batch.max=33",
            "targets.cpu.hardware.vcpus=3",
            "serving.dynamic_batching=false",
            "serving.config.optimization.priority=PRIORITY_MAX",
            "verify.sweep.concurrency=[1]",
        ],
    )
    def test_everything_else_does(self, good, override):
        more = "targets: {cpu: {runtime: onnxruntime}}\n"
        assert good(more, override).keyed() != good(more).keyed()

    def test_nothing_of_the_place_of_the_checkout_is_in_it(self, good, tmp_path):
        (tmp_path / "s.txt").write_text("a\n", encoding="utf-8")
        keyed = good(f"verify: {{samples: {tmp_path}/s.txt}}\n").keyed()
        assert str(tmp_path) not in json.dumps(keyed)
        assert keyed["verify"]["samples"] == "s.txt"
        assert keyed["source"]["path"] == "model"

    def test_fields_that_a_recipe_leaves_out_are_no_part_of_it(self, good):
        """New fields do not change the keys of recipes that do not use them."""
        keyed = good("serving: {dynamic_batching: {}, instance_group: [{}]}\n").keyed()["serving"]
        assert keyed == {
            "dynamic_batching": {
                "max_queue_delay_microseconds": 0,
                "preferred_batch_size": [],
                "preserve_ordering": False,
            },
            "instance_group": [{}],
            "response_cache": {"enable": False},
            "model_warmup": "auto",
            "parameters": {},
            "config": {},
        }

    def test_of_data_files_the_name_alone(self, good, tmp_path):
        entry = f"{{name: w, batch_size: 1, inputs: {{a: {{input_data_file: {tmp_path}/in.raw}}}}}}"
        keyed = good(f"serving: {{model_warmup: [{entry}]}}\n").keyed()["serving"]
        assert keyed["model_warmup"][0]["inputs"]["a"] == {"input_data_file": "in.raw"}


class TestAllOfModelConfig:
    """No field of Triton's is forgotten, in the recipe or in its documentation."""

    PAGE = (ROOT / "docs/reference/serving.md").read_text(encoding="utf-8")

    def test_the_example_of_the_page_is_a_recipe(self, good):
        example = self.PAGE.split("```yaml\n")[1].split("```")[0]
        assert good(example).serving.configs == {"l4": {"instance_group": [{"kind": "KIND_GPU", "count": 1}]}}
        VALIDATOR.validate(data(MINIMAL + example))

    def test_every_field_is_set_by_a_recipe_or_derived(self):
        fields = set(triton_proto.json_schema()["properties"])
        assert fields - set(Serving.model_fields) - set(DERIVED) == {"model_operations"}  # below config alone
        assert not set(Serving.model_fields) & set(DERIVED)
        assert [field for field in fields if f"`{field}`" not in self.PAGE] == []

    @pytest.mark.parametrize(
        ("section", "field"), [(DynamicBatching, "dynamic_batching"), (InstanceGroup, "instance_group")]
    )
    def test_sections_with_types_of_their_own_have_all_fields(self, section, field):
        schema = triton_proto.json_schema(field)
        assert set(section.model_fields) == set(schema.get("items", schema)["properties"])
