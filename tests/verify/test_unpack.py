"""How an archive becomes the repository that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.core.digest import describe_file, digest_tree
from builder.tools import archive as archives
from builder.verify import ArchiveFacts
from builder.verify.contract import probe
from builder.verify.measure import unpack

if TYPE_CHECKING:
    from pathlib import Path


def test_a_flat_archive_goes_into_its_models_folder(tmp_path: Path) -> None:
    path = probe.pack(tmp_path / "flat.tar.gz")
    digest = digest_tree(archives.read_members(path))
    here = describe_file(path)
    facts = ArchiveFacts("probe", here, here, here, digest, "25.09", "logits", ("Y",), (), 8, flat=True)
    assert unpack(facts, tmp_path / "repository") == tmp_path / "repository"
    assert (tmp_path / "repository" / "probe" / "config.pbtxt").is_file()
    assert (tmp_path / "repository" / "probe" / "1" / "model.py").is_file()
