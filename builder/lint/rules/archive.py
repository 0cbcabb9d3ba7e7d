"""Rules about the files as such: what nobody should unpack, what does not belong there."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final

from builder.lint.archive_tree import ArchiveTree
from builder.lint.finding import ADVICE, HOSTING_ERROR
from builder.lint.rule import Problem, repository_rule
from builder.lint.rules.hosts import HOSTS
from builder.lint.tree import OTHER

if TYPE_CHECKING:
    from builder.lint.model import World
    from builder.lint.rule import Problems
    from builder.tools.archive_look import Look

JUNK_FOLDERS: Final = frozenset({".ipynb_checkpoints", "__pycache__", ".git", "__MACOSX", ".cache", ".mypy_cache"})
JUNK_FILES: Final = frozenset({".DS_Store", "Thumbs.db"})


def is_junk(name: str) -> bool:
    """Whether a file or folder of that name belongs into no repository."""
    return name in JUNK_FOLDERS or name in JUNK_FILES or name.startswith("._")


@repository_rule(
    "A1",
    HOSTING_ERROR,
    "an archive for SageMaker is a tar, packed with gzip",
    why="ModelDataUrl takes no other format",
    source="SageMaker developer guide, your-algorithms-inference-code",
    hosts=HOSTS,
)
def gzipped(world: World) -> Problems:
    if isinstance(world.tree, ArchiveTree) and not world.tree.look.gzipped:
        yield Problem("is a tar without gzip", "pack it with tar -czf", path=".")


@repository_rule(
    "A11",
    HOSTING_ERROR,
    "an archive holds plain files and folders below its own folder",
    why="absolute paths, .. and links out write elsewhere when unpacked; loaders and tritonsmith refuse them",
    source="builder.tools.archive; SageMaker API, S3DataSource",
)
def bad_members(world: World) -> Problems:
    if isinstance(world.tree, ArchiveTree):
        for name, what in world.tree.bad:
            yield Problem(what, "pack the archive again, without it", path=name)
    else:
        for path, entry in world.tree.entries.items():
            if entry.kind == OTHER:
                yield Problem("is a device, a pipe or a socket", "remove it", path=path)


@repository_rule(
    "A32",
    HOSTING_ERROR,
    "no link leads out of the repository",
    why="an archive or a bucket does not hold what the link leads to",
    source="SageMaker API, S3DataSource; tar",
    hosts=HOSTS,
)
def links_out(world: World) -> Problems:
    if isinstance(world.tree, ArchiveTree):
        return  # A11 says so
    for path, entry in world.tree.entries.items():
        if entry.target:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.target))
            if entry.target.startswith("/") or target == ".." or target.startswith("../"):
                yield Problem(f"is a link to {entry.target!r}, out of the repository", "copy the file there", path=path)


@repository_rule(
    "A13",
    ADVICE,
    "a repository holds nothing that tools left behind",
    why="SageMaker counts folders such as .ipynb_checkpoints as models; the rest leaks and makes digests differ",
    source="server docker/sagemaker/serve:165",
)
def left_behind(world: World) -> Problems:
    for path in world.tree.entries:
        parent, _, name = path.rpartition("/")
        if is_junk(name) and not any(is_junk(part) for part in parent.split("/")):
            yield Problem("does not belong into a repository", "remove it (--fix does)", path=path)


@repository_rule(
    "A14",
    ADVICE,
    "equal files make an equal archive",
    why="an archive with times, owners or an order of its own has another digest each time it is packed",
    source="builder.tools.archive_write",
)
def reproducible(world: World) -> Problems:
    if isinstance(world.tree, ArchiveTree) and (reasons := _differing(world.tree.look)):
        yield Problem(
            f"is not packed reproducibly: {', '.join(reasons)}",
            "pack with tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner | gzip -n",
            path=".",
        )


def _differing(look: Look) -> tuple[str, ...]:
    names = [member.name for member in look.members]
    reasons = {
        "members are not sorted": names != sorted(names),
        "members have times": any(member.mtime_seconds for member in look.members),
        "members have owners": any(member.owner != (0, 0) for member in look.members),
        "gzip's header has a time": look.gzip_mtime_seconds != 0,
    }
    return tuple(reason for reason, holds in reasons.items() if holds)
