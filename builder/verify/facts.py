"""What verification has to know of an archive: from its manifest, or from the artifacts that a build has at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.artifacts import Archive, File
from builder.core.digest import digest_file
from builder.core.trees import differences
from builder.errors import ArchiveError, disk_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Packed, Reference

_SHOWN: Final = 10  # problems in a message
_DAMAGED: Final = "the manifest is damaged, or made by another version of tritonsmith: build again"


@dataclass(frozen=True, slots=True)
class ArchiveFacts:
    """An archive or a folder, the files beside it, and how its answers are compared.

    The digests and sizes in ``archive``, ``samples`` and ``expected`` are those that the manifest (or the build)
    states; :func:`check_files` holds the bytes on disk against them.
    """

    name: str  # the model that clients call
    archive: File  # a folder: its path, the digest of its tree, and the size of all that is in it
    samples: File  # .jsonl: one {"text": …, "text_pair": …} per line; of a pipeline, its tensors by name
    expected: File  # .safetensors: as artifacts.Reference describes it
    tree_digest: str  # sha256 of the unpacked tree, 64 hex digits
    triton: str  # release of the target: 25.09
    metric: str  # cosine | single-label | multi-label | regression | logits | pipeline
    outputs: tuple[str, ...]
    controls: tuple[str, ...]
    max_batch_size: int  # texts in one request at most
    text_pair: bool = False
    texts: File | None = None  # .json: the expected BYTES outputs of a pipeline
    load_models: tuple[str, ...] = ()  # what a server loads by name; empty: what clients call brings all with it
    python: tuple[int, int] | None = None  # the only one that the steps' own packages run on; None: any
    readable: tuple[str, ...] = ("TEXT", "TEXT_PAIR", "IMAGE")  # whose bytes must be texts, or images
    libraries: tuple[str, ...] = ()  # what runs its plans, for pip: see builder.tools.compatibility
    neighbours: bool = False  # whether embeddings must keep their nearest neighbours: builder.parity.neighbours
    folder: Mapping[str, File] = field(default_factory=dict)  # what is in a folder; empty: it is an archive
    flat: bool = False  # the archive's root is the one model, not a repository of models
    apart: bool = False  # invalid requests are sent when no other is in flight: see builder.verify.ask.Asker

    @property
    def lies_there(self) -> bool:
        """Whether a folder lies at its path; before it is handed out, its files lie in the store."""
        return bool(self.folder) and all(file.path == self.archive.path / name for name, file in self.folder.items())


def from_packed(packed: Packed, path: Path | None = None) -> dict[str, Any]:
    """The fields of :class:`ArchiveFacts` that say what is served.

    Args:
        packed: an archive or a folder.
        path: where it was handed out; None: it lies in the store.
    """
    if isinstance(packed, Archive):
        return {"archive": packed.file, "tree_digest": packed.tree_digest}
    whole = File(path or Path(packed.name), packed.sha256, packed.size)
    return {"archive": whole, "tree_digest": packed.tree_digest, "folder": packed.files}


def from_reference(reference: Reference) -> dict[str, Any]:
    """The fields of :class:`ArchiveFacts` that say what is asked, and what is expected."""
    readable = reference.record.get("readable")
    return {
        "samples": reference.files["samples.jsonl"],
        "expected": reference.files["expected.safetensors"],
        "texts": reference.files.get("expected.json"),
        "metric": reference.metric,
        "outputs": reference.outputs,
        "controls": reference.controls,
        "apart": bool(reference.record.get("fan_out")),
        **({} if readable is None else {"readable": tuple(readable)}),
    }


def check_metric(facts: ArchiveFacts) -> None:
    """Makes sure that the answers can be compared, before anything is served.

    Raises:
        ArchiveError: the metric is unknown, or an output that it compares is not among the outputs.
    """
    from builder.parity.compare import OUTPUTS

    place = f"{facts.archive.path}: its manifest says"
    if facts.metric not in OUTPUTS:
        raise ArchiveError(f"{place} metric {facts.metric!r}; known: {', '.join(OUTPUTS)}", mend=_DAMAGED)
    if missing := [name for name in OUTPUTS[facts.metric] if name not in facts.outputs]:
        stated = ", ".join(facts.outputs) or "none"
        raise ArchiveError(
            f"{place} outputs {stated}; metric {facts.metric} compares {', '.join(missing)} too", mend=_DAMAGED
        )
    if not facts.outputs:
        raise ArchiveError(f"{place} no outputs: there is nothing to compare", mend=_DAMAGED)


def check_files(facts: ArchiveFacts) -> None:
    """Holds the archive and the files beside it against their digests.

    Raises:
        ArchiveError: one of them is missing or is not what it was; what differs is named.
    """
    whole = {f"member {name}": file for name, file in facts.folder.items()} or {"archive": facts.archive}
    files = {} if facts.lies_there else whole
    files |= {"samples": facts.samples, "expected answers": facts.expected}
    files |= {"expected texts": facts.texts} if facts.texts else {}
    problems = [f"{what} {file.path}: {problem}" for what, file in files.items() if (problem := _problem(file))]
    if facts.lies_there:
        problems = [f"folder {facts.archive.path}: {problem}" for problem in _differences(facts)] + problems
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ArchiveError(
            "; ".join(problems[:_SHOWN]) + more,
            mend="copy the archive and the files beside it again, all from one build, or build again",
        )


def _differences(facts: ArchiveFacts) -> list[str]:
    try:
        return differences(facts.archive.path, facts.folder)
    except OSError as error:
        raise disk_error(facts.archive.path, error) from error


def _problem(file: File) -> str:
    if not file.path.is_file():
        return "is missing"
    if (size := file.path.stat().st_size) != file.size:
        return f"has {size} bytes, the manifest says {file.size}"
    if (found := digest_file(file.path)) != file.sha256:
        return f"has sha256 {found[:16]}…, the manifest says {file.sha256[:16]}…"
    return ""
