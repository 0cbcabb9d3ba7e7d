"""Signed archives: what ssh-keygen and sha256sum make of them, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from builder import building, cli, proving
from builder.errors import ArchiveError, UserError
from builder.package import check_trust, collect, with_verdict
from builder.package.beside import look_beside
from tests.package.conftest import beside, load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from builder.package import Delivery, Manifest
    from tests.package.conftest import Built, Made

SUFFIXES = (
    *(".tar.gz", ".manifest.json", ".samples.jsonl", ".expected.safetensors"),
    *(".provenance.json", ".sbom.cdx.json"),
)


@dataclass(frozen=True)
class Signers:
    """Key files: private, public, and those of somebody else."""

    key: Path
    public: Path
    other: Path


@pytest.fixture(scope="session")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Signers:
    folder = tmp_path_factory.mktemp("keys")
    for name, words in (("mine", ""), ("other", ""), ("locked", "a passphrase")):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", words, "-C", "a comment", "-f", folder / name]
        subprocess.run(command, check=True)
    (folder / "broken").write_text("no key\n")
    (folder / "broken").chmod(0o600)
    return Signers(folder / "mine", folder / "mine.pub", folder / "other.pub")


@pytest.fixture(scope="session")
def signed(made: Made, signers: Signers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.hand_out(tmp_path_factory.mktemp("signed") / "dist", signers.key).archive.file.path


@pytest.fixture
def archive(signed: Path, tmp_path: Path) -> Path:
    """A signed archive with all that lies beside it, to be damaged."""
    shutil.copytree(signed.parent, tmp_path / "got")
    return tmp_path / "got" / signed.name


def test_anybody_can_check_it_without_us(archive: Path, signers: Signers) -> None:
    (archive.parent / "allowed").write_text(f"us@example.com {signers.public.read_text()}")
    name = beside(archive, ".sha256sums").name
    command = f"""
      ssh-keygen -Y verify -f allowed -I us@example.com -n tritonsmith -s {name}.sig < {name} &&
      sha256sum --check --strict --quiet {name}"""
    assert subprocess.run(["sh", "-c", command], cwd=archive.parent, capture_output=True).returncode == 0
    covered = [line.split("  ")[1] for line in beside(archive, ".sha256sums").read_text().splitlines()]
    assert covered == sorted(beside(archive, suffix).name for suffix in SUFFIXES)
    beside(archive, ".samples.jsonl").write_text("{}")
    assert subprocess.run(["sh", "-c", command], cwd=archive.parent, capture_output=True).returncode == 1


def test_a_trusted_signature(archive: Path, signers: Signers, tmp_path: Path) -> None:
    both = tmp_path / "keys"
    both.write_text(f"# two\n{signers.other.read_text()}\n{signers.public.read_text()}")
    assert check_trust(archive, both).startswith("ED25519 SHA256:")
    with pytest.raises(ArchiveError, match=r"made by ED25519 SHA256:.*, which is none of the trusted keys"):
        check_trust(archive, signers.other)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_was_swapped(archive: Path, signers: Signers, suffix: str) -> None:
    file = beside(archive, suffix)
    content = file.read_bytes()
    file.write_bytes(content[:-2] + b"?" + content[-1:])
    with pytest.raises(ArchiveError, match=rf"{suffix}: is not what was signed"):
        check_trust(archive, signers.public)
    file.unlink()
    with pytest.raises(ArchiveError, match=rf"{suffix}: (was signed, and cannot be read|no such file)"):
        check_trust(archive, signers.public)


def test_checksums_that_were_written_anew(archive: Path, signers: Signers) -> None:
    sums = beside(archive, ".sha256sums")
    old = sums.read_text()
    samples = beside(archive, ".samples.jsonl")
    samples.write_text("{}\n")
    sums.write_text(old.replace(collect(archive).reference.files["samples.jsonl"].sha256, _sha256(samples)))
    with pytest.raises(ArchiveError, match="one of the two was changed"):
        check_trust(archive, signers.public)
    assert look_beside(archive).state == "broken"


def test_a_file_that_the_signature_leaves_out(archive: Path, signers: Signers) -> None:
    sums = beside(archive, ".sha256sums")
    sums.write_text("".join(line for line in sums.read_text().splitlines(keepends=True) if ".sbom." not in line))
    beside(archive, ".sha256sums.sig").unlink()
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", signers.key, "-n", "tritonsmith", sums], check=True)
    with pytest.raises(ArchiveError, match=r"sbom\.cdx\.json: is not covered by the signature"):
        check_trust(archive, signers.public)


def test_a_signature_for_something_else(archive: Path, signers: Signers) -> None:
    sums = beside(archive, ".sha256sums")
    beside(archive, ".sha256sums.sig").unlink()
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", signers.key, "-n", "git", sums], check=True)
    with pytest.raises(ArchiveError, match="is not the signature of"):
        check_trust(archive, signers.public)


def test_an_archive_that_nobody_signed(made: Made, signers: Signers, tmp_path: Path) -> None:
    delivered = made.hand_out(tmp_path / "dist")
    assert delivered.seal is None
    with pytest.raises(ArchiveError, match=r"sha256sums: no such file: the archive is not signed"):
        check_trust(delivered.archive.file.path, signers.public)
    assert collect(delivered.archive.file.path).attested == delivered.attested, "no signature is asked for without keys"


def test_what_is_no_public_key(archive: Path, signers: Signers, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no public key") as caught:
        check_trust(archive, signers.key)
    assert "ssh-keygen -y" in caught.value.mend
    with pytest.raises(UserError, match="cannot be read"):
        check_trust(archive, tmp_path / "absent.pub")


@pytest.mark.parametrize(
    ("name", "message"), [("locked", "passphrase"), ("broken", "cannot sign"), ("absent", "no such file")]
)
def test_a_key_that_cannot_sign(made: Made, signers: Signers, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        made.hand_out(tmp_path / "dist", signers.key.with_name(name))
    assert not list((tmp_path / "dist").glob("*.sha256sums*"))


def test_a_key_that_cannot_sign_is_told_before_anything_is_built(signers: Signers, tmp_path: Path) -> None:
    recipe = load_recipe(tmp_path, f"package.sign.key={signers.key.with_name('locked')}")
    with pytest.raises(UserError, match="passphrase"):
        building.build(recipe, out=tmp_path / "dist")


def test_delivering_again(made: Made, signers: Signers, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dist = tmp_path / "dist"
    first = made.hand_out(dist, signers.key)
    assert first.seal is not None
    before = {path.name: path.read_bytes() for path in dist.iterdir()}
    assert made.hand_out(dist).seal == first.seal, "it still holds"
    assert {path.name: path.read_bytes() for path in dist.iterdir()} == before
    assert not caplog.messages
    other = made.manifest.model_copy(update={"task": "pipeline"})
    assert replace(made, manifest=other).hand_out(dist).seal is None
    assert sorted(before.keys() - {path.name for path in dist.iterdir()}) == [
        first.seal.name,
        f"{first.seal.name}.sig",
    ], "it was of other bytes"
    assert "was removed: it was the seal of other bytes" in caplog.text


def test_a_proof_leaves_what_is_signed(
    archive: Path, signers: Signers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from builder.artifacts import Verdict

    def proven(delivery: Delivery, *_: object) -> Manifest:
        return with_verdict(delivery.manifest, None, Verdict("passed"))

    monkeypatch.setattr(proving, "_proven", proven)
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", str(archive), "--trust", str(signers.public), "--json"])
    shown = capsys.readouterr()
    assert end.value.code == 0
    assert "signed by ED25519 SHA256:" in shown.err
    assert "the manifest keeps its old figures: it is signed" in shown.err
    told = json.loads(shown.out)
    assert {name: told[name].rpartition(archive.name.removesuffix(".tar.gz"))[2] for name in NEW} == NEW
    check_trust(archive, signers.public)
    beside(archive, ".expected.safetensors").write_bytes(b"?")
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", str(archive), "--trust", str(signers.public)])
    assert end.value.code == 2


NEW = {
    "provenance": ".provenance.json",
    "sbom": ".sbom.cdx.json",
    "checksums": ".sha256sums",
    "signature": ".sha256sums.sig",
}


def test_the_key_is_in_no_file(built: Built, tmp_path: Path) -> None:
    asked = 'package={formats: [triton], sign: {key: "secret-key"}}', "package.sign.key=secret-key"
    for override in asked:
        recipe = load_recipe(tmp_path, override, "inputs.max_length=8")
        assert recipe.package.sign is not None
        assert recipe.package.sign.key == tmp_path / "secret-key"
        assert "secret-key" not in json.dumps(recipe.keyed())
        assert recipe.told == ("inputs.max_length=8",)
        assert recipe.keyed() == load_recipe(tmp_path, "inputs.max_length=8").keyed()


def test_inspect_tells_of_it(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", str(archive)])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    for line in (
        "provenance: built by tritonsmith",
        "template: steps/tokenize/model.py",
        "library: tokenizers",
        "machine-learning-model: tiny; Apache-2.0",
        "signature: signed by ED25519 SHA256:",
    ):
        assert line in shown
    with pytest.raises(SystemExit):
        cli.main(["inspect", str(archive), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["signature"]["state"] == "signed"
    assert {one["type"] for one in told["sbom"]} == {"machine-learning-model", "library", "framework", "platform"}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
