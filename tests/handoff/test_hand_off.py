from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.cli import main
from builder.core.digest import digest_file
from builder.errors import ArchiveError, DamagedError, GateError, UnverifiedError, UserError
from builder.handoff import hand_off, linting, release
from builder.handoff.gather import gather
from builder.handoff.names import distinct, slug, with_digest
from builder.package import package
from builder.package.seal import seal
from builder.recipe import load
from builder.tools import botocore_shapes
from tests.handoff.shipping import BASE, REPOSITORY, ship

if TYPE_CHECKING:
    from builder.handoff import HandedOff

ENDPOINT = {"endpoint": {"instance": "ml.c5.xlarge"}}


def handed(folder: Path, *archives: Path, **more: Any) -> HandedOff:
    return hand_off(archives or [ship(folder, section={**BASE, **ENDPOINT})], folder / "out", **more)


def operations(made: HandedOff) -> list[str]:
    return [call.operation for call in made.plan.calls]


def test_the_manifest_brings_the_section_and_the_folder_holds_all(tmp_path: Path) -> None:
    made = handed(tmp_path)
    assert operations(made) == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert sorted(str(path.relative_to(made.folder)) for path in made.folder.rglob("*") if path.is_file()) == [
        "RELEASE.md",
        "SHA256SUMS",
        f"archives/{made.plan.uploads[0].file.removesuffix('.tar.gz')}.manifest.json",
        "client.json",
        "client.py",
        "environment.json",
        "plan.json",
        "requests/01-sagemaker-CreateModel.json",
        "requests/02-sagemaker-CreateEndpointConfig.json",
        "requests/03-sagemaker-CreateEndpoint.json",
        "template.json",
    ]
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=made.folder, check=True)
    assert release.read(made.folder) == made.plan
    for call in made.plan.calls:
        assert botocore_shapes.check(call.service, call.operation, call.parameters) == ()
    assert json.loads((made.folder / "environment.json").read_text()) == {
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "tiny",
        "SAGEMAKER_TRITON_LOG_VERBOSE": "false",
    }


BESIDE = (".samples.jsonl", ".expected.safetensors", ".expected.json", ".provenance.json", ".sbom.cdx.json")


def signed(archive: Path, key: Path) -> Path:
    """With all that may lie beside an archive, and signed."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    stem = archive.name.removesuffix(".tar.gz")
    for suffix in BESIDE:
        archive.with_name(stem + suffix).write_text("{}")
    names = [archive.name, stem + ".manifest.json", *(stem + suffix for suffix in BESIDE)]
    seal(archive.with_name(stem + ".sha256sums"), {name: digest_file(archive.with_name(name)) for name in names}, key)
    return archive


AWS = """#!/bin/sh
# aws s3 cp s3://models/tritonsmith/NAME TARGET: the archive comes from where it was built
cp "$(dirname "$0")/../$(basename "$3")" "$4"
"""


def test_the_receiver_can_check_a_signed_archive_as_the_letter_says(tmp_path: Path) -> None:
    """The commands of RELEASE.md are run: aws and tritonsmith are played, ssh-keygen and sha256sum are real."""
    archive = signed(ship(tmp_path, section={**BASE, **ENDPOINT}), tmp_path / "key")
    made = handed(tmp_path, archive)
    stem = archive.name.removesuffix(".tar.gz")
    kept = sorted(path.name for path in (made.folder / "archives").iterdir())
    assert kept == sorted(stem + end for end in (".manifest.json", *BESIDE, ".sha256sums", ".sha256sums.sig"))
    assert "V5" not in {one.rule for one in made.advice}
    (block,) = re.findall(r"^## Proving it again\n.*?^```sh\n(.*?)^```", _letter(made), re.MULTILINE | re.DOTALL)
    (tmp_path / "bin").mkdir()
    for name, text in (("aws", AWS), ("tritonsmith", '#!/bin/sh\n[ "$1" = verify ] && [ -f "$2" ]\n')):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    shutil.copytree(made.folder, tmp_path / "received")
    public = (tmp_path / "key.pub").read_text()
    (tmp_path / "received/keys.txt").write_text(f"tritonsmith {public}")
    path = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}

    def run() -> subprocess.CompletedProcess[str]:
        shutil.rmtree(tmp_path / "received/proof", ignore_errors=True)
        return subprocess.run(
            ["sh", "-ec", block], cwd=tmp_path / "received", env=path, capture_output=True, text=True, check=False
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert 'Good "tritonsmith" signature for tritonsmith' in done.stdout
    samples = tmp_path / "received/archives" / f"{stem}.samples.jsonl"
    samples.write_text("{} ")
    assert f"{stem}.samples.jsonl: FAILED" in run().stdout
    sums = tmp_path / "received/archives" / f"{stem}.sha256sums"
    sums.write_text(sums.read_text().replace(digest_file(archive), "0" * 64))
    assert "Good" not in run().stdout


def _letter(made: HandedOff) -> str:
    return (made.folder / "RELEASE.md").read_text()


def test_of_an_unsigned_archive_the_letter_says_no_more_than_how_to_ask_it(tmp_path: Path) -> None:
    made = handed(tmp_path)
    assert "tritonsmith verify proof/tiny-cpu-" in _letter(made)
    assert "ssh-keygen" not in _letter(made)


def test_it_is_the_same_the_second_time_and_names_follow_content(tmp_path: Path) -> None:
    archive = ship(tmp_path, section={**BASE, **ENDPOINT})
    first, second = handed(tmp_path, archive), handed(tmp_path, archive)
    assert first.folder == second.folder
    other = handed(tmp_path, archive, overrides=["handoff.sagemaker.environment.A=b"])
    assert other.folder != first.folder
    assert {call.name for call in first.plan.calls}.isdisjoint(call.name for call in other.plan.calls)
    (first.folder / "RELEASE.md").write_text("changed")
    with pytest.raises(ArchiveError, match=r"is not what was written: RELEASE\.md"):
        handed(tmp_path, archive)


def test_nothing_unverified_goes_out_unasked(tmp_path: Path) -> None:
    archive = ship(tmp_path, status="unverified", section={**BASE, **ENDPOINT})
    with pytest.raises(UnverifiedError, match="is unverified") as refused:
        handed(tmp_path, archive)
    assert (refused.value.exit_code, "--unverified" in refused.value.mend) == (4, True)
    made = handed(tmp_path, archive, unverified=True)
    assert "**unverified**" in (made.folder / "RELEASE.md").read_text()
    failed = ship(tmp_path, "failed", status="failed", section={**BASE, **ENDPOINT})
    with pytest.raises(GateError, match="failed its verification"):
        handed(tmp_path, failed, unverified=True)


@pytest.mark.parametrize("kind", ["sagemaker", "s3-prefix"])
def test_what_was_verified_is_what_goes_out(tmp_path: Path, kind: str) -> None:
    archive = ship(tmp_path, kind=kind, section={**BASE, **ENDPOINT})
    assert handed(tmp_path, archive).plan.uploads[0].key.endswith(archive.name + ("/" if archive.is_dir() else ""))
    with (archive / "tiny/1/model.py" if archive.is_dir() else archive).open("ab") as file:
        file.write(b" ")
    with pytest.raises(DamagedError, match="is not what its manifest says"):
        handed(tmp_path, archive)


def test_a_file_and_set_say_it_instead(tmp_path: Path) -> None:
    archive = ship(tmp_path)
    with pytest.raises(UserError, match=r"tiny\.yaml: has no section handoff"):
        handed(tmp_path, archive)
    (tmp_path / "host.yaml").write_text(json.dumps({"name": "ignored", "handoff": {"sagemaker": BASE}}))
    made = handed(tmp_path, archive, recipe=tmp_path / "host.yaml", overrides=["handoff.sagemaker.bucket=others"])
    assert made.plan.uploads[0].uri == f"s3://others/tritonsmith/{archive.name}"
    assert operations(made) == ["CreateModel"]
    (tmp_path / "host.yaml").write_text(json.dumps({"handoff": {"sagemaker": {**BASE, "region": "x"}}}))
    with pytest.raises(UserError, match=r"host\.yaml:1:\d+: handoff\.sagemaker\.region: must be a region"):
        handed(tmp_path, archive, recipe=tmp_path / "host.yaml")


def test_what_the_host_would_refuse_is_not_written(tmp_path: Path) -> None:
    archive = ship(tmp_path, section={**BASE, **ENDPOINT})
    wrong = "handoff.sagemaker.requests.CreateEndpointConfig={ProductionVariants: [{InstanceType: ml.g5.tiny}]}"
    with pytest.raises(
        GateError, match=r"H11 hosting-error CreateEndpointConfig\.ProductionVariants\[0\]\.InstanceType"
    ):
        handed(tmp_path, archive, overrides=[wrong])
    assert not (tmp_path / "out").exists()


def test_prices_come_from_the_table_or_a_file_or_the_recipe(tmp_path: Path) -> None:
    archive = ship(tmp_path, section={**BASE, "endpoint": {"instance": "ml.g4dn.xlarge"}})
    table = tmp_path / "mine.json"
    row = {"name": "ml.g4dn.xlarge", "vcpus": 4, "memory_gib": 16, "gpu": "T4", "gpus": 1, "usd_per_hour": 0.5}
    sources = {"mine": "our own contract"}
    table.write_text(
        json.dumps({"as_of": "2026-11-01", "sources": sources, "instances": [row | {"price_source": "mine"}]})
    )
    own = ["handoff.sagemaker.usd_per_hour={ml.g4dn.xlarge: 0.25}"]
    for more, words in (
        ({}, "0.7364 USD an hour (SageMaker hosting, us-east-1, 2025-04"),
        ({"instances": table}, "0.5 USD an hour (our own contract; as of 2026-11-01)"),
        ({"overrides": own}, "0.25 USD an hour (as the recipe says)"),
    ):
        assert f"* `ml.g4dn.xlarge`: {words}" in (handed(tmp_path, archive, **more).folder / "RELEASE.md").read_text()
    (tmp_path / "broken.json").write_text('{"instances": 3}')
    with pytest.raises(UserError, match="is no table of instances"):
        handed(tmp_path, archive, instances=tmp_path / "broken.json")


def test_names_are_slugs_with_a_collision_check() -> None:
    assert slug("a_b.c--d") == "a-b-c-d"
    assert len(with_digest("x" * 99, {})) == 63
    assert with_digest("x", {"a": 1}) != with_digest("x", {"a": 2})
    assert distinct(["a_b", "c"]) == {"a_b": "a-b", "c": "c"}
    with pytest.raises(UserError, match=r"'a_b' and 'a\.b' would both be called 'a-b'"):
        distinct(["a_b", "a.b"])
    with pytest.raises(UserError, match="no letter"):
        slug("__")


def test_the_command_tells_what_it_made(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    archive = ship(tmp_path, section={**BASE, **ENDPOINT})
    with pytest.raises(SystemExit) as end:
        main(["handoff", str(archive), "--to", "sagemaker", "-o", str(tmp_path / "out"), "--json"])
    assert end.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert [call["operation"] for call in said["calls"]] == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    with pytest.raises(SystemExit) as end:
        main(["handoff", str(archive), "--to", "moon"])
    assert end.value.code == 2


def test_lint_may_ask_of_a_release_and_of_a_recipe(tmp_path: Path) -> None:
    made = handed(tmp_path)
    assert tuple(found for _, found in linting.of_release(made.folder)) == made.advice
    recipe = {
        "schema_version": 1,
        "name": "x",
        "source": {"path": "."},
        "task": "sentence-embedding",
        "targets": {"l4": {"runtime": "tensorrt-rtx", "precision": "fp16", "hardware": {"gpu": "L4"}}},
        "handoff": {"sagemaker": {**BASE, "endpoint": {"instance": "ml.g5.xlarge"}}},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    loaded = load(tmp_path / "recipe.yaml")
    assert {"V4", "V10"} <= {one.rule for one in linting.of_recipe(loaded, "l4")}
    assert loaded.keyed()["handoff"] == recipe["handoff"]


def test_the_section_changes_no_archive(tmp_path: Path) -> None:
    recipe = {"schema_version": 1, "name": "x", "source": {"path": "."}, "task": "sentence-embedding"}
    stages = []
    for more in ({}, {"handoff": {"sagemaker": BASE}}):
        (tmp_path / "recipe.yaml").write_text(json.dumps({**recipe, **more}))
        stages.append(package(load(tmp_path / "recipe.yaml"), "cpu", tmp_path))
    assert stages[0] == stages[1]


def test_facts_are_read_from_the_manifest(tmp_path: Path) -> None:
    view = {
        "targets": {"cpu": {"hardware": {"instance": "ml.c5.large"}}},
        "serving": {"response_cache": {"enable": True}, "model_transaction_policy": {"decoupled": True}},
        "models": {"a": {"serving": {"instance_group": [{"count": 1, "rate_limiter": {}}]}}},
    }
    host = {"backends": ["tensorrt_rtx"]}
    archive = ship(
        tmp_path,
        recipe={"file": "r.yaml", "view": view, "overrides": ()},
        repository={**REPOSITORY, "host": host, "load_models": ["tiny", "part"]},
    )
    (found,) = gather([archive])
    facts = found.facts
    assert (facts.response_cache, facts.decoupled, facts.rate_limiter) == (True, True, True)
    assert (facts.instance, facts.backends, facts.load_models) == ("ml.c5.large", ("tensorrt_rtx",), ("tiny", "part"))
    assert (facts.max_length, facts.capabilities) == (64, ())


def test_the_guide_is_true(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs/how-to/sagemaker.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    (tmp_path / "production.yaml").write_text(block)
    made = handed(tmp_path, ship(tmp_path), recipe=tmp_path / "production.yaml")
    assert operations(made)[-1] == "PutScalingPolicy"
