from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.artifacts import Measurement, Verdict
from builder.errors import ArchiveError, MachineError
from builder.package import Manifest, describe, read_manifest, with_verdict, write_manifest
from builder.tools import archive

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.package.conftest import Built

MEASUREMENT = Measurement(
    parity={"metric": "cosine", "cosine": 0.9999999},
    perf=({"concurrency": 1, "throughput": 10.5},),
    server={
        "provider": "embedded",
        "stand_ins": [{"what": "backend onnxruntime"}],
        "overrides": [],
    },
    hardware={"cpu": "one", "vcpus": 2},
)


@pytest.fixture
def manifest(built: Built) -> Manifest:
    return make(built)


def make(built: Built) -> Manifest:
    return describe(
        built.recipe,
        "cpu",
        source=built.parts.source,
        exported=(built.parts.model, built.parts.tokenizer),
        repository=built.repository,
        archive=built.archive,
        reference=built.parts.reference,
    )


def test_a_manifest_survives_writing(manifest: Manifest, tmp_path: Path) -> None:
    for one in (manifest, with_verdict(manifest, MEASUREMENT, Verdict("passed", (), {"worst": 1.0}))):
        write_manifest(tmp_path / "m.json", one)
        assert read_manifest(tmp_path / "m.json") == one
    assert (tmp_path / "m.json").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_a_manifest_that_says_the_same_is_left(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps(manifest.model_dump(mode="json")))  # other white space
    kept = path.read_bytes()
    write_manifest(path, manifest)
    assert path.read_bytes() == kept
    write_manifest(path, manifest.model_copy(update={"name": "other"}))
    assert read_manifest(path).name == "other"


def test_what_it_tells(manifest: Manifest, built: Built) -> None:
    assert (manifest.name, manifest.task) == ("tiny", "sentence-embedding")
    assert manifest.target.model_dump() == {
        "name": "cpu",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "triton": "25.09",
        "vcpus": 2,
    }
    assert manifest.recipe.file == "tiny.yaml"
    assert manifest.recipe.view["name"] == "tiny"
    assert "description" not in manifest.recipe.view
    assert manifest.source.licence == "apache-2.0"
    assert manifest.archive.tree_digest == built.archive.tree_digest
    assert manifest.archive.members.keys() == built.repository.files.keys()
    assert manifest.gates.model_dump() == {
        "tolerances": {"cosine": 0.999999},
        "constraints": {"p99_ms": 100.0},
        "concurrency": (1, 2),
    }
    assert {"python", "tritonsmith", "torch", "transformers", "tokenizers", "isal"} <= manifest.tools.keys()
    assert manifest.verification.status == "unverified"


def test_it_says_which_tensors_are_bound_and_why_others_are_not(built: Built, tmp_path: Path) -> None:
    record = {
        "bound": 3,
        "embedded": {"stored as BF16, served as FP32": {"count": 1, "first": ["a"]}},
        "shapes": (1, 2),
    }
    parts = replace(
        built.parts,
        model=replace(built.parts.model, record=record),
        tokenizer=replace(built.parts.tokenizer, record={"max_length": {"tokenizer_config.json": 48}}),
    )
    write_manifest(tmp_path / "m.json", make(replace(built, parts=parts)))
    export = read_manifest(tmp_path / "m.json").export
    assert export.model == record | {"shapes": [1, 2]}
    assert export.tokenizer == {"max_length": {"tokenizer_config.json": 48}}
    assert export.opset == built.parts.model.opset


def test_overrides_and_parity_of_the_recipe(build: Callable[..., Built]) -> None:
    manifest = make(build("verify.parity={cosine: 0.99}", "serving.max_batch_size=4"))
    assert manifest.recipe.overrides == ("verify.parity={cosine: 0.99}", "serving.max_batch_size=4")
    assert manifest.gates.tolerances == {"cosine": 0.99}
    assert manifest.repository["max_batch_size"] == 4


def test_members_are_those_of_the_archive(manifest: Manifest, built: Built) -> None:
    members = archive.read_members(built.archive.file.path)
    assert {name: (facts.sha256, facts.size) for name, facts in manifest.archive.members.items()} == {
        name: (file.sha256, file.size) for name, file in members.items()
    }


def test_two_builds_write_the_same_but_for_what_was_measured(
    built: Built, build: Callable[..., Built], tmp_path: Path
) -> None:
    slower = Measurement(MEASUREMENT.parity, ({"concurrency": 1, "throughput": 9.0},), MEASUREMENT.server, {"vcpus": 4})
    pairs = [(built, MEASUREMENT), (build(parts=built.parts), slower)]
    texts = []
    for index, (one, measurement) in enumerate(pairs):
        write_manifest(tmp_path / f"{index}.json", with_verdict(make(one), measurement, Verdict("passed")))
        data = json.loads((tmp_path / f"{index}.json").read_text(encoding="utf-8"))
        measured = data.pop("measured")
        texts.append((json.dumps(data), json.dumps(measured)))
    assert texts[0][0] == texts[1][0]
    assert texts[0][1] != texts[1][1]


def test_a_verdict(manifest: Manifest) -> None:
    judged = with_verdict(manifest, MEASUREMENT, Verdict("failed", ("cosine is 0.9",), {"worst": 3}))
    assert judged.verification.status == "failed"
    assert judged.verification.stand_ins == ({"what": "backend onnxruntime"},)
    assert judged.measured.reasons == ("cosine is 0.9",)
    assert judged.measured.perf == ({"concurrency": 1, "throughput": 10.5},)
    assert "stand_ins" not in judged.measured.server
    again = with_verdict(judged, None, Verdict("unverified"))
    assert again == with_verdict(manifest, None, Verdict("unverified"))
    assert MEASUREMENT.server.keys() == {"provider", "stand_ins", "overrides"}


def damage_json(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        data = json.loads(content)
        change(data)
        return json.dumps(data).encode()

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "is no manifest"),
        (lambda content: b"", "is no manifest"),
        (lambda content: b"\xff\xfe", "is no manifest"),
        (lambda content: b"[]", "is no manifest"),
        (damage_json(lambda data: data.pop("archive")), r"archive: Field required"),
        (damage_json(lambda data: data.update(extra=1)), r"extra: Extra inputs are not permitted, got '1'"),
        (damage_json(lambda data: data.update(schema_version=2)), "has schema version 2; this tritonsmith reads 1"),
        (damage_json(lambda data: data["archive"].update(size="1")), r"archive\.size: Input should be a valid integer"),
        (damage_json(lambda data: data["archive"].update(sha256="abc")), r"archive\.sha256: String should match"),
        (
            damage_json(lambda data: data["verification"].update(status="fine")),
            r"verification\.status: Input should be",
        ),
        (
            damage_json(lambda data: data["reference"].update(metric="cos")),
            r"reference\.metric: Input should be 'cosine'",
        ),
        (damage_json(lambda data: data["gates"].update(tolerances={})), r"gates\.tolerances: cosine is missing"),
        (
            damage_json(lambda data: data["reference"].update(metric="single-label")),
            r"gates\.tolerances: label_agreement, max_probability_difference is missing",
        ),
        (damage_json(lambda data: data["target"].update(precision="fp4")), r"target\.precision: .* no tolerances for"),
    ],
)
def test_a_damaged_manifest_is_refused(
    manifest: Manifest, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "m.json"
    write_manifest(path, manifest)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArchiveError, match=rf"m\.json: {message}"):
        read_manifest(path)


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="manifest cannot be read: No such file") as caught:
        read_manifest(tmp_path / "m.json")
    assert "keep the archive and the files beside it together" in caught.value.mend


def test_a_full_disk_leaves_what_was_there(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.json"
    path.write_text("before")

    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(MachineError, match="no space left"):
        write_manifest(path, manifest)
    assert [(file.name, file.read_text()) for file in Path(tmp_path).iterdir()] == [("m.json", "before")]
