"""`tritonsmith verify` beside files that cannot be written; the proof itself is for tests/system."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from builder import cli, proving
from builder.artifacts import Verdict
from builder.errors import MachineError
from builder.package import read_manifest, with_verdict
from tests.package.test_delivery import hand_out

if TYPE_CHECKING:
    from pathlib import Path

    from builder.package import Delivery, Manifest
    from tests.package.conftest import Built


@pytest.mark.parametrize(("status", "code"), [("passed", 0), ("failed", 1)])
@pytest.mark.parametrize("writable", [True, False])
def test_a_proof_is_told_where_it_cannot_be_written(
    built: Built,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: str,
    code: int,
    writable: bool,
) -> None:
    def proven(delivery: Delivery, *_: object) -> Manifest:
        return with_verdict(delivery.manifest, None, Verdict(status))

    def refuse(path: Path, _: Manifest) -> None:
        raise MachineError(f"{path}: Read-only file system")

    delivered = hand_out(built, tmp_path / "dist")
    monkeypatch.setattr(proving, "_proven", proven)
    if not writable:  # permissions do not stop root, who runs many a CI
        monkeypatch.setattr(proving, "write_manifest", refuse)
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", str(delivered.archive.file.path), "--json"])
    shown = capsys.readouterr()
    assert end.value.code == code
    assert json.loads(shown.out)["status"] == status
    assert ("warning: the manifest keeps its old figures" in shown.err) is not writable
    assert read_manifest(delivered.manifest_path).verification.status == (status if writable else "unverified")
