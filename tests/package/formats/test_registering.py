"""A format that only the registry knows is packed, described, delivered, found again, and handed off."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from builder import pipeline, proving
from builder.core.digest import describe_folder, digest_tree
from builder.core.execute import Executor
from builder.core.store import Store
from builder.handoff.gather import facts_of
from builder.handoff.models import uploads_of
from builder.package import Pack, collect, formats
from builder.package.attest import Attest, AttestInputs
from builder.package.formats import MULTI_MODEL, Format, Servable
from builder.pipeline import Surroundings
from builder.verify import check_files
from builder.verify.measure import unpack
from tests.handoff.shipping import settings
from tests.package.conftest import Made

if TYPE_CHECKING:
    from pathlib import Path

    from builder.artifacts import Repository
    from tests.package.conftest import Built

REWRITTEN = "# as this host wants it\n"


def arrange(repository: Repository) -> tuple[Servable, ...]:
    path = f"{repository.name}/config.pbtxt"
    text = repository.files[path].path.read_text() + REWRITTEN
    return (Servable(repository.name, repository.files, ("tiny",), {"TOY": "1"}, {path: text}),)


@pytest.mark.parametrize("pack", ["archive", "folder"])
def test_nothing_else_asks_for_its_name(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: str
) -> None:
    toy = Format("toy", "for a host of our own", arrange, pack, MULTI_MODEL)  # type: ignore[arg-type]
    monkeypatch.setattr(formats, "REGISTRY", MappingProxyType({**formats.REGISTRY, "toy": toy}))
    recipe = built.recipe.model_copy(
        update={"package": built.recipe.package.model_copy(update={"formats": ("triton", "toy")})}
    )
    order = pipeline.nodes(recipe, (), Surroundings(tmp_path, lambda path: pytest.fail(f"{path} is read")))
    assert {node.id for node in order} >= {pipeline.node_id(recipe, "cpu", stage, "toy") for stage in ("pack", "judge")}

    store = Store.at(tmp_path / "store")
    packed = Executor(store, "tiny").run(Pack("cpu", "toy"), built.repository)
    toyed = replace(built, archive=packed)
    manifest = toyed.described()
    made = Made(toyed, manifest, Executor(store).run(Attest(), AttestInputs(manifest, built.repository)).files)
    delivered = made.hand_out(tmp_path / "dist")
    assert delivered.path.is_dir() is (pack == "folder")
    found = collect(delivered.path)
    assert (found.archive, found.manifest.environment) == (delivered.archive, {"TOY": "1"})
    check_files(proving.facts_of(found))
    repository = unpack(proving.facts_of(found), tmp_path / "repository")
    assert (repository / "tiny/config.pbtxt").read_text().endswith(REWRITTEN)
    assert digest_tree(describe_folder(repository)) == packed.tree_digest != digest_tree(built.repository.files)

    facts = facts_of(found.manifest)
    assert (facts.is_folder, facts.is_multi) == (pack == "folder", True)
    assert uploads_of(settings(), "all", [facts])[0].key.endswith("/" if pack == "folder" else ".tar.gz")
