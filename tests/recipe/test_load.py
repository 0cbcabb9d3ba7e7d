"""Recipes that are right, and every way in which one can be wrong: the exact line that the user reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.errors import RecipeError
from builder.recipe import load
from builder.recipe.load import SIZE_LIMIT_BYTES
from builder.recipe.source import ArchitectureSource, HubSource, PackageFolder, PackageSource, PathSource
from builder.tools import releases
from tests.recipe.conftest import MINIMAL

REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
NO_SOURCE = MINIMAL.replace("source: {path: model}\n", "")


class TestDefaults:
    def test_the_minimal_recipe_has_the_defaults_of_the_design(self, good, tmp_path):
        recipe = good()
        assert recipe.path == tmp_path / "recipe.yaml"
        assert recipe.overrides == ()
        assert recipe.description == ""
        assert (recipe.shapes.batch.min, recipe.shapes.batch.opt, recipe.shapes.batch.max) == (1, 8, 32)
        assert recipe.shapes.sequence is None
        assert dict(recipe.targets).keys() == {"cpu"}
        target = recipe.targets["cpu"]
        assert (target.runtime, target.precision, target.hardware.vcpus, target.triton) == (
            "onnxruntime",
            "fp32",
            2,
            "25.09",
        )
        assert recipe.serving.max_batch_size is None
        assert recipe.serving.dynamic_batching is None
        assert recipe.serving.model_warmup == "auto"
        assert recipe.serving.response_cache.enable is False
        assert recipe.verify.sweep.concurrency == (1, 4, 16)
        assert recipe.verify.samples is None
        assert recipe.package.formats == ("triton",)

    @pytest.mark.parametrize(
        ("batch", "opt"), [("{max: 4}", 4), ("{min: 16}", 16), ("{min: 2, max: 64}", 8), ("{opt: 3}", 3)]
    )
    def test_the_default_of_opt_keeps_within_min_and_max(self, good, batch, opt):
        assert good(f"shapes: {{batch: {batch}}}\n").shapes.batch.opt == opt

    def test_a_recipe_cannot_be_changed(self, good):
        recipe = good("serving: {parameters: {a: b}}\n")
        with pytest.raises(ValueError, match="frozen"):
            recipe.name = "other"
        with pytest.raises(ValueError, match="frozen"):
            recipe.serving.max_batch_size = 4
        with pytest.raises(TypeError, match="item assignment"):
            recipe.targets["gpu"] = recipe.targets["cpu"]
        with pytest.raises(TypeError, match="item assignment"):
            recipe.serving.parameters["a"] = "c"


class TestEverySection:
    def test_all_that_is_reached(self, good, tmp_path):
        (tmp_path / "samples.txt").write_text("one\ntwo\n", encoding="utf-8")
        recipe = good(
            """
description: Text
inputs: {max_length: 128, padding: buckets, buckets: [16, 64, 128]}
shapes: {batch: {min: 2, opt: 4, max: 16}, sequence: {min: 2, opt: 32, max: 128}}
targets:
  here: {runtime: onnxruntime, hardware: local, triton: "24.12"}
  cpu: {runtime: onnxruntime, precision: fp32, hardware: {vcpus: 4}}
serving:
  max_batch_size: 8
  dynamic_batching: {max_queue_delay_microseconds: 500, preferred_batch_size: [4, 8], preserve_ordering: true}
  instance_group: [{count: 2}, {kind: KIND_CPU}]
  response_cache: {enable: true}
  model_warmup: off
  version_policy: {specific: {versions: [1]}}
  parameters: {intra_op_thread_count: "1"}
  config: {optimization: {priority: PRIORITY_MAX}}
pipeline: auto
verify:
  samples: samples.txt
  parity: {cosine: 0.999}
  sweep: {concurrency: [1, 2]}
  constraints: {p99_ms: 100, min_throughput: 10.5}
package: {formats: [triton]}
"""
        )
        assert recipe.inputs.buckets == (16, 64, 128)
        assert recipe.shapes.sequence is not None
        assert recipe.shapes.sequence.max == 128
        assert recipe.targets["here"].hardware.local is True
        assert recipe.targets["here"].hardware.vcpus is None
        assert recipe.targets["cpu"].hardware.vcpus == 4
        assert recipe.serving.dynamic_batching.preferred_batch_size == (4, 8)
        assert [group.count for group in recipe.serving.instance_group or ()] == [2, None]
        assert recipe.serving.model_warmup == "off"  # a string in YAML 1.2
        assert recipe.serving.version_policy == {"specific": {"versions": (1,)}}
        assert recipe.serving.parameters == {"intra_op_thread_count": "1"}
        assert recipe.serving.config == {"optimization": {"priority": "PRIORITY_MAX"}}
        assert recipe.verify.samples == tmp_path / "samples.txt"
        assert recipe.verify.parity == {"cosine": 0.999}
        assert recipe.verify.constraints.p99_ms == 100

    def test_dynamic_batching_can_be_off_and_version_policies_have_three_kinds(self, good):
        assert good("serving: {dynamic_batching: false}\n").serving.dynamic_batching is False
        assert good("serving: {version_policy: {all: {}}}\n").serving.version_policy == {"all": {}}
        latest = good("serving: {version_policy: {latest: {num_versions: 2}}}\n").serving.version_policy
        assert latest == {"latest": {"num_versions": 2}}

    def test_null_is_left_out(self, good):
        assert good("inputs: {max_length: }\nserving: {dynamic_batching: null}\n").keyed() == good().keyed()

    def test_sources(self, good, tmp_path):
        path = good(base=NO_SOURCE + "source: {path: ./model}\n").source
        assert isinstance(path, PathSource)
        assert (path.kind, path.path) == ("path", tmp_path / "model")
        assert (path.allow_pickle, path.trust_remote_code) == (False, False)
        hub = good(base=NO_SOURCE + f"source: {{hub: a/b, revision: {REVISION}, allow: {{pickle: true}}}}\n").source
        assert isinstance(hub, HubSource)
        assert (hub.kind, hub.hub, hub.revision, hub.allow_pickle) == ("hub", "a/b", REVISION, True)
        package = good(base=NO_SOURCE + "source: {package: gt_all, path: model/}\n").source
        assert isinstance(package, PackageSource)
        assert (package.kind, package.package, package.path) == ("package", "gt_all", "model")
        assert good(base=NO_SOURCE + "source: {package: gt_all}\n").source.path == ""

    def test_an_architecture(self, good, tmp_path):
        base = NO_SOURCE + "source: {architecture: {config: c.json, tokenizer: ./tok}}\n"
        source = good(base=base).source
        assert isinstance(source, ArchitectureSource)
        assert source.architecture.config == tmp_path / "c.json"
        assert source.architecture.tokenizer == tmp_path / "tok"
        assert source.architecture.seed == 0
        base = NO_SOURCE + "source: {architecture: {config: {a: 1}, seed: 7, tokenizer: {package: p, path: m}}}\n"
        source = good(base=base).source
        assert isinstance(source, ArchitectureSource)
        assert source.architecture.config == {"a": 1}
        assert source.architecture.tokenizer == PackageFolder(package="p", path="m")


BASES = {"source:": NO_SOURCE, "models:": "schema_version: 1\nname: tiny\n"}


def refusals() -> list:
    """The cases of refusals.txt: what is added, what stands for `source`, and the lines of the refusal."""
    cases = []
    text = (Path(__file__).parent / "refusals.txt").read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if not line.startswith("#") and line]
        more = "".join(f"{line}\n" for line in lines if not line.startswith("=> "))
        if more:
            base = next((base for key, base in BASES.items() if more.startswith(key)), MINIMAL)
            told = [line.removeprefix("=> ") for line in lines if line.startswith("=> ")]
            cases.append(pytest.param(base, more, told, id=more.split("\n")[0][:60]))
    return cases


@pytest.mark.parametrize(("base", "more", "told"), refusals())
def test_the_refusal_names_place_value_and_what_is_allowed(bad, base, more, told):
    assert told
    assert bad(more, base=base) == [f"recipe.yaml:{line}" for line in told]


class TestUnknownKeys:
    def test_keys_of_the_chosen_source_alone_are_allowed(self, bad):
        assert bad(base=NO_SOURCE + f"source: {{hub: a/b, revision: {REVISION}, seed: 1}}\n") == [
            "recipe.yaml:4:72: source.seed: unknown key; allowed: allow, hub, revision"
        ]
        assert bad(base=NO_SOURCE + "source: {package: p, path: m, allow: {pikle: true}}\n") == [
            "recipe.yaml:4:39: source.allow.pikle: unknown key; allowed: pickle, remote_code; did you mean 'pickle'?"
        ]
        config = "{config: {}, tokenizer: {package: p, paht: m}}"
        assert bad(base=NO_SOURCE + f"source: {{architecture: {config}}}\n") == [
            (
                "recipe.yaml:4:61: source.architecture.tokenizer.paht: unknown key; allowed: package, path; "
                "did you mean 'path'?"
            )
        ]

    def test_duplicate_keys_name_both_places(self, bad):
        assert bad("serving:\n  max_batch_size: 4\n  max_batch_size: 5\n") == [
            "recipe.yaml:7:3: serving.max_batch_size: duplicate key; first at recipe.yaml:6:3"
        ]


class TestWrongValues:
    @pytest.mark.parametrize("name", ["a/b", "", "-a", ".a", "a b", "é", "a" * 64, "$x"])
    def test_names_that_no_host_takes(self, bad, name):
        (line,) = bad(base=MINIMAL.replace("tiny", f'"{name}"'))
        assert line.startswith(
            "recipe.yaml:2:7: name: must be 1 to 63 ASCII letters, digits, '.', '_' or '-', beginning"
        )

    def test_a_number_is_no_name(self, bad):
        assert bad(base=MINIMAL.replace("tiny", '"12"')) == [
            "recipe.yaml:2:7: name: must not be a number: hosts take a folder '12' for a version of a model"
        ]
        assert bad(base=MINIMAL.replace("tiny", "12")) == [
            'recipe.yaml:2:7: name: must be a string, got the number 12; quote it: "12"'
        ]

    @pytest.mark.parametrize("name", ["a", "a" * 63, "A.b_c-9", "9a"])
    def test_names_that_all_hosts_take(self, good, name):
        assert good(base=MINIMAL.replace("tiny", name)).name == name

    def test_an_unknown_task_lists_the_tasks(self, bad):
        assert bad(base=MINIMAL.replace("embedding", "embeding")) == [
            (
                "recipe.yaml:4:7: task: unknown task 'sentence-embeding'; allowed: sentence-embedding, "
                "text-classification, question-answering, token-classification, text-ranking, image-classification; "
                "did you mean 'sentence-embedding'?"
            )
        ]

    def test_a_triton_release_that_nobody_knows(self, bad):
        known = f'"{releases.names()[0]}" to "{releases.names()[-1]}"'
        assert bad('targets: {cpu: {runtime: onnxruntime, triton: "25.9"}}\n') == [
            (
                f"recipe.yaml:5:47: targets.cpu.triton: must be a Triton release, from {known}; got the string '25.9'; "
                "did you mean '25.09'?"
            )
        ]

    def test_required_keys(self, bad):
        assert bad(base="description: x\n") == [
            f"recipe.yaml:1:1: {key}: missing; it has no default"
            for key in ("schema_version", "name", "source", "task")
        ]

    def test_the_version_of_the_format(self, bad):
        assert bad(base=MINIMAL.replace("version: 1", "version: 2")) == [
            "recipe.yaml:1:17: schema_version: this tritonsmith reads version 1, got version 2"
        ]
        assert bad(base=MINIMAL.replace("version: 1", 'version: "1"')) == [
            "recipe.yaml:1:17: schema_version: must be 1, got the string '1'"
        ]

    def test_all_problems_are_told_at_once_in_the_order_of_the_file(self, bad):
        lines = bad("shapes: {batch: {min: 9, max: 4}}\ninputs: {x: 1, x: 2}\nserving: {max_batch_size: a}\nx: 1\n")
        assert [line.split(": ")[:2] for line in lines] == [
            ["recipe.yaml:5:23", "shapes.batch.min"],
            ["recipe.yaml:6:10", "inputs.x"],
            ["recipe.yaml:6:16", "inputs.x"],
            ["recipe.yaml:7:27", "serving.max_batch_size"],
            ["recipe.yaml:8:1", "x"],
        ]


class TestFiles:
    def test_a_missing_file_and_the_one_that_was_meant(self, tmp_path):
        with pytest.raises(RecipeError, match=r"no\.yaml: no such file$"):
            load(tmp_path / "no.yaml")
        (tmp_path / "no.yml").write_text(MINIMAL, encoding="utf-8")
        with pytest.raises(RecipeError, match=r"no\.yaml: no such file; did you mean .*no\.yml\?"):
            load(tmp_path / "no.yaml")
        with pytest.raises(RecipeError, match=r"no: no such file; did you mean .*no\.yml\?"):
            load(tmp_path / "no")
        (tmp_path / "embedder.yaml").write_text(MINIMAL, encoding="utf-8")
        with pytest.raises(RecipeError, match=r"embeder\.yaml: no such file; did you mean .*embedder\.yaml\?"):
            load(tmp_path / "embeder.yaml")

    def test_a_folder(self, tmp_path):
        (tmp_path / "a.yaml").write_text(MINIMAL, encoding="utf-8")
        with pytest.raises(RecipeError, match=r"not a file; the folder holds a\.yaml"):
            load(tmp_path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, write):
        path = write()
        path.chmod(0)
        with pytest.raises(RecipeError, match="cannot be read: Permission denied"):
            load(path)

    def test_a_path_that_no_file_can_have(self):
        for name in ("a\0b", "a" * 5000, "", "no/such/folder/x"):
            with pytest.raises(RecipeError, match=r"no such file|cannot be read|not a file"):
                load(name)

    def test_an_empty_file(self, bad):
        empty = "recipe.yaml:1:1: the file is empty; a recipe begins with schema_version, name, source and task"
        assert bad(b"") == [empty]
        assert bad(b"# nothing\n") == [empty]

    def test_what_is_no_mapping(self, bad):
        assert bad(b"[1]") == ["recipe.yaml:1:1: a recipe is a mapping of keys to values, got a list"]
        assert bad(b"word") == ["recipe.yaml:1:1: a recipe is a mapping of keys to values, got one value"]

    def test_what_is_not_utf_8(self, bad):
        assert bad(MINIMAL.encode() + b"# caf\xe9\n") == [
            "recipe.yaml:5:6: byte 0xe9 is not UTF-8; save the file as UTF-8"
        ]
        assert bad(MINIMAL.encode("utf-16"))[0].endswith("is not UTF-8; save the file as UTF-8")

    def test_a_byte_order_mark_is_no_error(self, write):
        assert load(write(b"\xef\xbb\xbf" + MINIMAL.encode())).name == "tiny"

    def test_a_file_that_is_too_large_to_be_a_recipe(self, write):
        with pytest.raises(RecipeError, match="larger than 256 KiB"):
            load(write("#" * SIZE_LIMIT_BYTES))


class TestSamples:
    def test_the_file_must_be_there_and_readable(self, bad, tmp_path):
        assert bad("verify: {samples: s.txt}\n") == ["recipe.yaml:5:19: verify.samples: s.txt: no such file"]
        (tmp_path / "s.txt").write_bytes(b"good\nb\xffd\n")
        assert bad("verify: {samples: s.txt}\n") == [
            "recipe.yaml:5:19: verify.samples: s.txt:2:2: byte 0xff is not UTF-8; save the file as UTF-8"
        ]
        (tmp_path / "s.txt").write_text("\n  \n", encoding="utf-8")
        assert bad("verify: {samples: s.txt}\n") == ["recipe.yaml:5:19: verify.samples: s.txt: holds no samples"]

    @pytest.mark.parametrize("samples", ["s.txt", "./s.txt", "ABSOLUTE/s.txt"])
    def test_a_relative_path_begins_at_the_recipe(self, good, tmp_path, samples):
        (tmp_path / "s.txt").write_text("a\n", encoding="utf-8")
        samples = samples.replace("ABSOLUTE", str(tmp_path))
        assert good(f"verify: {{samples: {samples}}}\n").verify.samples == tmp_path / "s.txt"

    def test_a_home_is_found(self, good, bad, tmp_path, monkeypatch):
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "s.txt").write_text("one\n", encoding="utf-8")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert good('verify: {samples: "~/s.txt"}\n').verify.samples == tmp_path / "home" / "s.txt"
        assert bad('verify: {samples: "~/t.txt"}\n') == ["recipe.yaml:5:19: verify.samples: home/t.txt: no such file"]
        (problem,) = bad('verify: {samples: "~nobody-of-that-name/s.txt"}\n')
        assert "home directory" in problem

    def test_a_device_is_no_file_of_samples(self, bad):
        assert bad("verify: {samples: /dev/zero}\n") == ["recipe.yaml:5:19: verify.samples: /dev/zero: not a file"]
