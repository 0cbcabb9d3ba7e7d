"""``lint --fix``: mends what is mechanical, by position, so that comments and the rest of a file stay byte for byte."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.errors import UserError, disk_error
from builder.lint.backend import ENSEMBLE
from builder.lint.engine import check, open_tree
from builder.lint.graphs import backend
from builder.lint.model import MODEL, Model, World, survey
from builder.lint.rules.advice import batching_is_added
from builder.lint.rules.archive import is_junk
from builder.lint.spans import Span, spans
from builder.lint.tree import FolderTree
from builder.tools import triton_proto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from builder.lint.options import Options

log = logging.getLogger(__name__)

PLACEHOLDER: Final = "placeholder"
"""The file that keeps an ensemble's version folder from being empty."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """One thing that was mended.

    Args:
        rule: the rule that asked for it.
        path: the file or folder, relative to what was linted.
        what: what was done, as a sentence.
    """

    rule: str
    path: str
    what: str


@dataclass(frozen=True, slots=True)
class _Edit:
    """``text[begin:end]`` becomes ``new``; positions in characters."""

    rule: str
    begin: int
    end: int
    new: str
    what: str


def fix(path: Path, options: Options) -> tuple[Fixed, ...]:
    """Mends what rules found and what needs no decision.

    Args:
        path: a model repository or model folder; it is changed in place.
        options: as for :func:`builder.lint.lint`.

    Raises:
        UserError: it is an archive or a recipe, which are not changed.
        MachineError: a file cannot be written.
    """
    if not path.is_dir():
        raise UserError(f"{path}: --fix changes folders only", mend="unpack it, fix the folder, and pack it again")
    world = survey(open_tree(path), options)
    wanted = {(found.rule, found.path) for found in check(world).findings}
    try:
        return (*_configs(world, path, wanted), *_files(world, path, wanted))
    except OSError as error:
        raise disk_error(path, error) from error


def _configs(world: World, root: Path, wanted: set[tuple[str, str]]) -> Iterator[Fixed]:
    for model in world.models.values():
        if model.config is None or not model.config_path:
            continue
        file = root / model.config_path
        if file.is_symlink() or _through_link(world, model.config_path):
            continue
        text = file.read_bytes().decode("utf-8", "surrogateescape")
        edits = [edit for edit in _edits(model, world, text) if (edit.rule, model.config_path) in wanted]
        if edits and (new := _applied(text, edits)) is not None:
            file.write_bytes(new.encode("utf-8", "surrogateescape"))
            yield from (Fixed(edit.rule, model.config_path, edit.what) for edit in edits)


def _edits(model: Model, world: World, text: str) -> Iterator[_Edit]:
    fields = spans(text)
    end = "\r\n" if "\r\n" in text else "\n"
    for edit in _EDITS:
        yield from edit(model, world, fields, _Text(text, end))


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    line_end: str

    def appended(self, rule: str, line: str, what: str) -> _Edit:
        """An edit that adds a line at the end."""
        before = "" if not self.text or self.text.endswith("\n") else self.line_end
        return _Edit(rule, len(self.text), len(self.text), f"{before}{line}{self.line_end}", what)


def _name(model: Model, world: World, fields: tuple[Span, ...], text: _Text) -> Iterator[_Edit]:
    """The config's name is the folder's; nobody knows the folder's where a model is linted alone."""
    if world.layout == MODEL:
        return
    line = f'name: "{model.name}"'
    stated = [field for field in fields if field.path == ("name",)]
    if not stated:
        first = min((field.begin for field in fields), default=len(text.text))
        yield _Edit("A31", first, first, f"{line}{text.line_end}", f"added {line}")
    for field in stated:
        yield _Edit("A9", field.begin, field.end, line, f"wrote {line}")


def _step_versions(_: Model, __: World, fields: tuple[Span, ...], text: _Text) -> Iterator[_Edit]:
    """Each step of an ensemble names a version."""
    place = ("ensemble_scheduling", "step")
    versions = {field.parents[-1] for field in fields if field.path == (*place, "model_version")}
    for field in fields:
        if field.path == (*place, "model_name") and field.parents[-1] not in versions:
            blank = _blank_before(text.text, field.begin)
            new = f"{blank}model_version: -1" if "\n" in blank else " model_version: -1"
            yield _Edit("E15", field.end, field.end, new, "added model_version: -1 to a step")


def _blank_before(text: str, place: int) -> str:
    """The line end and the indentation before a field, if the field begins its line."""
    begin = text.rfind("\n", 0, place)
    indentation = text[begin + 1 : place]
    if begin < 0 or indentation.strip():
        return " "
    return ("\r\n" if text[:begin].endswith("\r") else "\n") + indentation


def _batching(model: Model, world: World, _: tuple[Span, ...], text: _Text) -> Iterator[_Edit]:
    """What auto-complete adds is written down; where it adds nothing, a scheduler would change what is served."""
    if batching_is_added(model, strict=world.options.strict):
        yield text.appended("C11", "dynamic_batching { }", "added dynamic_batching { }, as auto-complete does")


_EDITS: Final[tuple[Callable[[Model, World, tuple[Span, ...], _Text], Iterator[_Edit]], ...]] = (
    _name,
    _step_versions,
    _batching,
)


def _applied(text: str, edits: list[_Edit]) -> str | None:
    """The text with all edits; None if it can no longer be parsed: then it is left as it was."""
    new = text
    for edit in sorted(edits, key=lambda edit: edit.begin, reverse=True):
        new = new[: edit.begin] + edit.new + new[edit.end :]
    try:
        triton_proto.parse_text(new.encode("utf-8", "replace").decode(), place="")
    except UserError as error:
        log.warning("not mended, for the result could not be read: %s", error.message)
        return None
    return new


def _files(world: World, root: Path, wanted: set[tuple[str, str]]) -> Iterator[Fixed]:
    assert isinstance(world.tree, FolderTree)
    for path in sorted(path for rule, path in wanted if rule == "A13"):
        place = root / path
        if not is_junk(place.name) or _through_link(world, path):
            continue
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()
        yield Fixed("A13", path, "removed it")
    for model in world.models.values():
        if model.config is not None and backend(model) == ENSEMBLE:
            for version in model.versions:
                folder = model.path(str(version))
                if ("A12", folder) in wanted and not _through_link(world, folder):
                    (root / folder / PLACEHOLDER).write_text("Keeps this folder where empty ones are lost.\n")
                    yield Fixed("A12", folder, f"put the file {PLACEHOLDER} into it")


def _through_link(world: World, path: str) -> bool:
    """Whether a folder above a path is a link: what lies behind belongs to another repository."""
    parts = path.split("/")
    above = ("/".join(parts[:count]) for count in range(1, len(parts)))
    return any(world.tree.entries[folder].target for folder in above)
