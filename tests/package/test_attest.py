"""Provenance and bill of materials: what others' tools make of them, and that they are about the archive."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from builder.core.execute import Executor, fingerprint_of
from builder.core.store import Store
from builder.errors import ArchiveError
from builder.package import collect
from builder.package.attest import PROVENANCE, SBOM, Attest, AttestInputs
from builder.package.describing import attest_facts
from builder.package.provenance import TREE, subject_digest
from builder.tools import sbom
from builder.tools.wheel_metadata import parse
from tests.package.conftest import beside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.package.conftest import Made


def read(made: Made, name: str) -> Any:
    return json.loads(made.files[name].path.read_bytes())


def test_the_statement(made: Made) -> None:
    found = read(made, PROVENANCE)
    archive = made.built.archive
    assert (found["_type"], found["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    assert found["subject"] == [{"name": archive.name, "digest": {"sha256": archive.file.sha256}}]
    definition = found["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["recipe"] == made.built.recipe.keyed()
    assert definition["internalParameters"] == {"treeDigest": archive.tree_digest}
    digests = {one["name"]: one["digest"]["sha256"] for one in definition["resolvedDependencies"]}
    wheels = made.built.repository.record["wheels"]
    sources = {name: file.sha256 for name, file in made.built.parts.source.files.items()}
    assert digests.items() >= {**wheels, **sources}.items()
    step = made.built.repository.files["tiny-tokenize/1/model.py"].sha256
    assert digests["steps/tokenize/model.py"] == step
    assert set(digests) - set(wheels) - set(sources) == {"steps/tokenize/model.py", "samples.jsonl"}


def test_a_folder_is_told_by_its_tree(made: Made) -> None:
    facts = made.manifest.archive
    assert subject_digest(facts) == {"sha256": facts.sha256}
    assert subject_digest(facts.model_copy(update={"format": "s3-prefix"})) == {TREE: facts.tree_digest}


def test_the_bill(made: Made) -> None:
    found = read(made, SBOM)
    assert JsonStrictValidator(SchemaVersion.from_version(sbom.SPECIFICATION)).validate_str(json.dumps(found)) is None
    components = {one["type"]: one for one in found["components"]}
    model, wheel = components["machine-learning-model"], components["library"]
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert {one["name"]: one["hashes"][0]["content"] for one in model["components"]} == {
        name: file.sha256 for name, file in made.built.parts.source.files.items()
    }
    assert wheel["purl"] == f"pkg:pypi/tokenizers@{wheel['version']}"
    assert wheel["licenses"] == [{"license": {"name": "Apache Software License"}}]
    assert wheel["hashes"][0]["content"] in made.built.repository.record["wheels"].values()
    assert (components["platform"]["version"], components["platform"]["isExternal"]) == ("2.61.0", True)
    assert found["serialNumber"] == sbom.serial_number(made.built.archive.tree_digest)


def test_the_validator_finds_fault(made: Made) -> None:
    found = read(made, SBOM)
    found["components"][0]["type"] = "model"
    validator = JsonStrictValidator(SchemaVersion.from_version(sbom.SPECIFICATION))
    assert validator.validate_str(json.dumps(found)) is not None


def test_the_same_inputs_make_the_same_bytes(made: Made, tmp_path: Path) -> None:
    inputs = AttestInputs(made.manifest, made.built.repository)
    again = Executor(Store.at(tmp_path)).run(Attest(), inputs).files
    assert {name: file.sha256 for name, file in again.items()} == {n: f.sha256 for n, f in made.files.items()}
    measured = made.manifest.model_copy(
        update={"measured": made.manifest.measured.model_copy(update={"reasons": ("x",)})}
    )
    assert fingerprint_of(Attest(), replace(inputs, manifest=measured)) == fingerprint_of(Attest(), inputs)
    other = made.manifest.model_copy(update={"recipe": made.manifest.recipe.model_copy(update={"overrides": ("a=1",)})})
    assert fingerprint_of(Attest(), replace(inputs, manifest=other)) != fingerprint_of(Attest(), inputs)


@pytest.mark.parametrize("suffix", [".provenance.json", ".sbom.cdx.json"])
def test_one_that_was_changed_or_is_gone(made: Made, tmp_path: Path, suffix: str) -> None:
    archive = made.hand_out(tmp_path / "dist").archive.file.path
    assert collect(archive).attested.keys() == {PROVENANCE, SBOM}
    file = beside(archive, suffix)
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(ArchiveError, match=rf"{suffix}: has sha256 .*; the manifest says"):
        collect(archive)
    file.unlink()
    with pytest.raises(ArchiveError, match=rf"{suffix}: no such file"):
        collect(archive)


@pytest.mark.parametrize(
    ("name", "what", "change"),
    [
        (PROVENANCE, "the provenance", lambda data: data["subject"][0]["digest"].update(sha256="0" * 64)),
        (SBOM, "the bill of materials", lambda data: data["metadata"]["component"].pop("hashes")),
        (SBOM, "the bill of materials", lambda data: data.update(serialNumber=sbom.serial_number("0"))),
    ],
)
def test_one_of_another_archive(
    made: Made, tmp_path: Path, name: str, what: str, change: Callable[[Any], object]
) -> None:
    """As if its manifest had been written to fit."""
    data = read(made, name)
    change(data)
    forged = tmp_path / name
    forged.write_text(json.dumps(data))
    content = forged.read_bytes()
    file = replace(made.files[name], path=forged, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    archive = replace(made, files={**made.files, name: file}).hand_out(tmp_path / "dist").archive.file.path
    with pytest.raises(ArchiveError, match=f"is {what} of another archive"):
        collect(archive)


def test_a_manifest_of_before(made: Made, tmp_path: Path) -> None:
    delivered = replace(made, files={}).hand_out(tmp_path / "dist")
    assert attest_facts(delivered.manifest, None, None) == delivered.manifest
    assert collect(delivered.archive.file.path).attested == {}


@pytest.mark.parametrize(
    ("head", "expression", "licences"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: old", "MIT OR Apache-2.0", ("old",)),
        ("License: BSD\nClassifier: License :: OSI Approved :: BSD License", None, ("BSD",)),
        ("License: a\n  whole text\nClassifier: License :: OSI Approved :: BSD License", None, ("BSD License",)),
        ("License: UNKNOWN", None, ()),
    ],
)
def test_what_a_package_says_of_its_licence(head: str, expression: str | None, licences: tuple[str, ...]) -> None:
    found = parse(f"Metadata-Version: 2.4\nName: x\nVersion: 1\n{head}\n\nLicense: of the description\n")
    assert (found.name, found.version, found.expression, found.licences) == ("x", "1", expression, licences)
