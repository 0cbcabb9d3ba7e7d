"""How an archive came to be, as an in-toto statement with SLSA's provenance: docs/reference/provenance.md.

There is no time, host or path in it: the same inputs and tools make the same bytes, and so the store keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from builder import __version__
from builder.tools import templates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.artifacts import Json
    from builder.package.manifest import ArchiveFacts, FileFacts, Manifest, SourceFacts

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:tritonsmith:build-type:model-repository:v1"
BUILDER: Final = "urn:tritonsmith:builder:local"
TREE: Final = "tritonsmithTree"
"""Kind of digest, of a folder: see :func:`builder.core.digest.digest_tree`."""

_FOLDER: Final = "model_repo_template"


def statement(manifest: Manifest, template_digests: Mapping[str, str]) -> Json:
    """The statement about an archive.

    Args:
        manifest: the archive's; what was measured is left out.
        template_digests: sha256 of the templates, by their paths.
    """
    recipe = manifest.recipe
    return {
        "_type": STATEMENT,
        "subject": [{"name": manifest.archive.file, "digest": subject_digest(manifest.archive)}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": recipe.view,
                    "overrides": list(recipe.overrides),
                    **({"tuned": recipe.tuned} if recipe.tuned else {}),
                    "target": manifest.target.name,
                    "format": manifest.archive.format,
                },
                "internalParameters": {"treeDigest": manifest.archive.tree_digest},
                "resolvedDependencies": [
                    *(one for name, source in sources(manifest) for one in _source(name, source)),
                    *_wheels(manifest),
                    *_code(manifest, template_digests),
                    _resource("samples", manifest.reference.samples.sha256, name="samples.jsonl"),
                ],
            },
            "runDetails": {"builder": {"id": BUILDER, "version": manifest.tools}},
        },
    }


def subject_digest(archive: ArchiveFacts) -> dict[str, str]:
    """What identifies an archive; of a folder, its tree."""
    return {TREE: archive.tree_digest} if archive.is_folder else {"sha256": archive.sha256}


def sources(manifest: Manifest) -> list[tuple[str, SourceFacts]]:
    """The models, by the names that the recipe has for them."""
    single = [(manifest.name, manifest.source)] if manifest.source else []
    return single + [(name, model.source) for name, model in manifest.models.items()]


def purl(source: SourceFacts) -> str | None:
    """A model's package URL (https://github.com/package-url/purl-spec); None where it comes from nowhere public."""
    if source.kind == "hub":
        return f"pkg:huggingface/{quote(source.model_id)}@{source.revision}"
    return None


def digest_templates() -> dict[str, str]:
    """sha256 of the templates that this tritonsmith has, by their paths."""
    from builder.core.digest import digest_file

    folder = templates.folder()
    files = sorted(file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(folder).as_posix(): digest_file(file) for file in files}


def _source(name: str, source: SourceFacts) -> Iterator[Json]:
    known = {key: value for key, value in (("revision", source.revision), ("licence", source.licence)) if value}
    for path, file in source.files.items():
        about = {"model": name, "source": source.kind, "model_id": source.model_id, **known}
        yield _resource("model", file.sha256, name=path, uri=purl(source), **about)


def _wheels(manifest: Manifest) -> Iterator[Json]:
    stated = manifest.repository.get("wheels")
    for name, sha256 in sorted(stated.items()) if isinstance(stated, dict) else ():
        project, version = name.split("-")[:2]
        yield _resource("wheel", str(sha256), name=name, uri=pypi(project, version))


def pypi(project: str, version: str) -> str:
    """The package URL of a Python package."""
    return f"pkg:pypi/{project.lower().replace('_', '-')}@{quote(version, safe='')}"


def _code(manifest: Manifest, template_digests: Mapping[str, str]) -> Iterator[Json]:
    """The code that serves: of tritonsmith's templates those that are in the archive, and the user's own files."""
    by_digest = {digest: path for path, digest in sorted(template_digests.items(), reverse=True)}
    members = {path: file for path, file in manifest.archive.members.items() if _is_code(path, file, by_digest)}
    for digest in sorted({file.sha256 for file in members.values()} & by_digest.keys(), key=by_digest.__getitem__):
        uri = f"{pypi('tritonsmith', __version__)}#{_FOLDER}/{by_digest[digest]}"
        yield _resource("template", digest, name=by_digest[digest], uri=uri)
    for path, file in members.items():
        if file.sha256 not in by_digest:
            yield _resource("step", file.sha256, name=path)


def _is_code(path: str, file: FileFacts, by_digest: Mapping[str, str]) -> bool:
    return "/vendor/" not in path and (path.endswith(".py") or file.sha256 in by_digest)


def _resource(role: str, sha256: str, *, name: str, uri: str | None = None, **about: str) -> Json:
    located = {"uri": uri} if uri else {}
    return {"name": name, **located, "digest": {"sha256": sha256}, "annotations": {"role": role, **about}}
