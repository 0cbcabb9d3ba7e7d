"""What is in an archive, for its bill of materials: models, vendored packages, and what has to serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.package.provenance import purl, pypi, sources
from builder.tools import wheel_metadata
from builder.tools.releases import release
from builder.tools.sbom import Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.artifacts import File, Json
    from builder.package.manifest import Manifest, SourceFacts
    from builder.tools.wheel_metadata import Metadata

_TREE: Final = "tree-digest"


def archive(manifest: Manifest) -> Part:
    """The archive itself: what the bill is about. A folder has no bytes of its own, and so only a tree digest."""
    facts = manifest.archive
    sha256 = None if facts.is_folder else facts.sha256
    about = {_TREE: facts.tree_digest, "target": manifest.target.name, "format": facts.format}
    return Part("application", manifest.name, "archive", facts.tree_digest[:16], sha256=sha256, properties=about)


def parts(manifest: Manifest, metadata: Sequence[File]) -> list[Part]:
    """All that is in an archive, and what serves it.

    Args:
        manifest: the archive's.
        metadata: the file ``METADATA`` of each vendored package.
    """
    return [
        *(_model(name, source) for name, source in sources(manifest)),
        *_wheels(manifest, metadata),
        *_environments(manifest),
        *_runtime(manifest),
    ]


def _model(name: str, source: SourceFacts) -> Part:
    ref = f"model/{name}"
    return Part(
        "machine-learning-model",
        source.model_id,
        ref,
        source.revision,
        (source.licence,) if source.licence else (),
        purl(source),
        properties={"model": name, "source": source.kind},
        parts=tuple(Part("file", path, f"{ref}/{path}", sha256=file.sha256) for path, file in source.files.items()),
    )


def _wheels(manifest: Manifest, metadata: Sequence[File]) -> Iterator[Part]:
    """The vendored packages. Licences are those that they state; a wheel without METADATA states none."""
    stated = manifest.repository.get("wheels")
    known = _metadata(metadata)
    for file_name, sha256 in sorted(stated.items()) if isinstance(stated, dict) else ():
        project, version = file_name.split("-")[:2]
        found = known.get(pypi(project, version))
        licences = (found.expression,) if found and found.expression else found.licences if found else ()
        yield Part(
            "library",
            found.name if found else project,
            f"wheel/{file_name}",
            version,
            licences,
            pypi(project, version),
            str(sha256),
            properties={"wheel": file_name},
        )


def _metadata(files: Sequence[File]) -> Mapping[str, Metadata]:
    """By package URL."""
    texts = [file.path.read_text(encoding="utf-8", errors="replace") for file in files]
    return {pypi(one.name.replace(".", "-"), one.version): one for one in map(wheel_metadata.parse, texts)}


def _environments(manifest: Manifest) -> Iterator[Part]:
    """Environments that the user packed: what is in them, they alone know."""
    from builder.tools.archive_environment import FILE_NAME

    for path, file in manifest.archive.members.items():
        if path.endswith(f"/{FILE_NAME}"):
            yield Part("file", path, f"environment/{path}", sha256=file.sha256)


def _runtime(manifest: Manifest) -> Iterator[Part]:
    """What the archive expects of the machine that serves it: not in the archive."""
    triton = release(manifest.target.triton)
    server = {"release": triton.name}
    yield Part(
        "platform", "tritonserver", "runtime/tritonserver", triton.server_version, external=True, properties=server
    )
    if manifest.engine is not None:
        name, version = manifest.engine.runtime, manifest.engine.library
        yield Part("framework", name, f"runtime/{name}", version, external=True)
    else:
        yield Part("framework", "onnxruntime", "runtime/onnxruntime", triton.onnxruntime, external=True)


def about(bill: Mapping[str, Json]) -> str | None:
    """sha256 of the archive that a bill is about, or the tree digest of the folder; None: it does not say."""
    try:
        component = bill["metadata"]["component"]
        hashes = [one["content"] for one in component.get("hashes", ()) if one["alg"] == "SHA-256"]
        trees = [one["value"] for one in component["properties"] if one["name"] == f"tritonsmith:{_TREE}"]
        return next(iter([*hashes, *trees]), None)
    except (KeyError, TypeError):
        return None
