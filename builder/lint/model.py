"""What the rules look at: the models of a repository, each with its files and its config."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from builder.errors import UserError
from builder.lint import positions
from builder.tools import triton_proto

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.lint.options import Options
    from builder.lint.tree import Tree

CONFIG_NAME: Final = "config.pbtxt"

NO_VERSIONS: Final = frozenset({"warmup", "initial_state", "configs"})
"""Folders of a model that the server never takes for versions (core r24.10, src/model_lifecycle.cc)."""


@dataclass(frozen=True, slots=True)
class ParseProblem:
    """Why a config cannot be read: the parser's words, and the line from 1 where it knows it."""

    message: str
    line: int | None


class Model:
    """One model folder.

    Args:
        tree: all files.
        place: its folder in the tree; ``""`` where the tree is one model.
    """

    def __init__(self, tree: Tree, place: str) -> None:
        self.tree = tree
        self.place = place
        self.memo: dict[str, Any] = {}
        """What rules read once and share: facts of the graph, of ``model.py``."""

    @cached_property
    def name(self) -> str:
        """The folder's name: the server's name of the model."""
        return self.place.rpartition("/")[2] or self.tree.name

    def path(self, relative: str) -> str:
        """The path in the tree of a path in the model's folder."""
        return f"{self.place}/{relative}" if self.place else relative

    @cached_property
    def config_path(self) -> str:
        """The path of its ``config.pbtxt`` in the tree; empty where there is none."""
        path = self.path(CONFIG_NAME)
        return path if path in self.tree.entries else ""

    @cached_property
    def where(self) -> str:
        """Where a finding about the config is shown: the config, or the folder where there is none."""
        return self.config_path or self.place or "."

    @cached_property
    def text(self) -> str:
        """The text of its config; empty where there is none."""
        return self.tree.read_text(self.config_path) if self.config_path else ""

    @cached_property
    def _parsed(self) -> tuple[Any, ParseProblem | None]:
        try:
            return triton_proto.parse_text(self.text, place=""), None
        except UserError as error:
            line, message = positions.split_error(error.message)
            return None, ParseProblem(message, line)

    @property
    def config(self) -> Any:  # noqa: ANN401 - protobuf's classes have no types
        """The ModelConfig message: an empty one where there is no config file, None where it cannot be parsed."""
        return self._parsed[0]

    @property
    def parse_problem(self) -> ParseProblem | None:
        """Why the config cannot be parsed."""
        return self._parsed[1]

    @cached_property
    def _lines(self) -> Mapping[str, int]:
        return positions.lines(self.text)

    def line_of(self, field_path: str) -> int | None:
        """The line, from 1, of ``input[0].dims`` in the config; of the nearest field around it that is there."""
        field_path = field_path.replace("[0]", "")
        while field_path and field_path not in self._lines:
            field_path = positions.parent(field_path)
        return self._lines.get(field_path)

    def find_field(self, name: str) -> str:
        """The place of the first field of that name, at any depth; empty where there is none."""
        return next((place for place in self._lines if place.rpartition(".")[2].partition("[")[0] == name), "")

    def mentions(self, word: str) -> bool:
        """Whether the config has a word, outside of comments and strings."""
        return positions.mentions(self.text, word)

    def has(self, relative: str) -> bool:
        """Whether there is a file at a path relative to the model's folder, which may lead out of it."""
        return self.tree.is_file(posixpath.normpath(self.path(relative)))

    def size(self, relative: str) -> int:
        """Bytes of the file at a path relative to the model's folder."""
        return self.tree.entries[posixpath.normpath(self.path(relative))].size

    def read(self, relative: str, limit: int) -> bytes:
        """The first ``limit`` bytes of the file at a path relative to the model's folder."""
        return self.tree.head(posixpath.normpath(self.path(relative)), limit)

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """The names of the folders in it."""
        return tuple(name for name in self.tree.children(self.place) if self.tree.is_folder(self.path(name)))

    @cached_property
    def versions(self) -> tuple[int, ...]:
        """The versions that the server sees, ascending (core r24.10, src/model_lifecycle.cc:90).

        It reads names as ``std::stoll`` does: ``1a`` and ``+1`` are version 1, and its folder is ``1`` all the same.
        """
        names = (name for name in self.folders if name not in NO_VERSIONS and not _has_leading_zero(name))
        return tuple(sorted({int(found[0]) for name in names if (found := _STOLL.match(name))}))

    @cached_property
    def loaded_versions(self) -> tuple[int, ...]:
        """The versions that the version policy chooses; without one, the newest.

        One that a policy names twice is loaded even where it is not there: the core takes the second mention for the
        proof that it is (core r24.10, src/model_repository_manager/model_lifecycle.cc:119).
        """
        policy = self.config.version_policy if self.config is not None else None
        if policy is not None and policy.HasField("specific"):
            named = list(policy.specific.versions)
            return tuple(sorted({one for one in named if one in self.versions or named.count(one) > 1}))
        if policy is not None and policy.HasField("all"):
            return self.versions
        count = policy.latest.num_versions if policy is not None and policy.HasField("latest") else 1
        return self.versions[len(self.versions) - count :] if count <= len(self.versions) else self.versions


@dataclass(frozen=True)
class World:
    """All that the rules may look at.

    Args:
        tree: all files.
        models: name → model.
        options: what is assumed about the server and the host.
        layout: REPOSITORY (model folders side by side) or MODEL (the root is one model).
        memo: what rules read once and share.
    """

    tree: Tree
    models: Mapping[str, Model]
    options: Options
    layout: str
    memo: dict[str, Any] = field(default_factory=dict)


REPOSITORY: Final = "repository"
MODEL: Final = "model"


def survey(tree: Tree, options: Options) -> World:
    """The models of a tree: the root itself if it holds a config or version folders, else each folder in it."""
    names = tree.children("")
    if CONFIG_NAME in names or any(is_version(name) and tree.is_folder(name) for name in names):
        places, layout = [""], MODEL
    else:
        places, layout = [name for name in names if tree.is_folder(name)], REPOSITORY
    models = [Model(tree, place) for place in places]
    return World(tree, {model.name: model for model in models}, options, layout)


_STOLL: Final = re.compile(r"\s*[+-]?\d+", re.ASCII)


def _has_leading_zero(name: str) -> bool:
    return len(name) > 1 and name.startswith("0")


def is_version(name: str) -> bool:
    """Whether a folder is named as versions are meant to be: digits, without leading zeros."""
    return name.isascii() and name.isdecimal() and not _has_leading_zero(name)
