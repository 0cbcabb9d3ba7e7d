"""Archives with manifests that say what a test wants, without a build: a tiny Python model, packed for real."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.core.digest import describe_file, describe_folder, digest_tree
from builder.handoff import make_plan
from builder.package import Manifest, write_manifest
from builder.package.places import manifest_path
from builder.recipe import handoff
from builder.recipe.document import Node, Place
from builder.tools import archive

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.artifacts import File
    from builder.handoff.gather import Shipped
    from builder.handoff.plan import Plan
    from builder.recipe.handoff import SageMaker

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
BASE: dict[str, Any] = {"role_arn": ROLE, "region": "eu-central-1", "bucket": "models"}
MODEL_PY = """
import numpy as np
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            texts = pb.get_input_tensor_by_name(request, "TEXT").as_numpy()
            lengths = np.array([[len(text) for text in row] for row in texts], dtype=np.float32)
            said = np.array([[text.upper() for text in row] for row in texts], dtype=object)
            answers.append(pb.InferenceResponse([pb.Tensor("LENGTH", lengths), pb.Tensor("SAID", said)]))
        return answers
"""
CONFIG = """
name: "%s"
backend: "python"
max_batch_size: 8
input { name: "TEXT" data_type: TYPE_STRING dims: [1] }
output { name: "LENGTH" data_type: TYPE_FP32 dims: [1] }
output { name: "SAID" data_type: TYPE_STRING dims: [1] }
"""
REPOSITORY: dict[str, Any] = {
    "max_batch_size": 8,
    "max_length": 64,
    "text_pair": False,
    "inputs": [{"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1]}],
    "outputs": [
        {"name": "LENGTH", "data_type": "TYPE_FP32", "dims": [1]},
        {"name": "SAID", "data_type": "TYPE_STRING", "dims": [1]},
    ],
}
NOTHING = {"sha256": "0" * 64, "size": 0}


def settings(more: dict[str, Any] | None = None) -> SageMaker:
    """The section ``handoff.sagemaker``, as a recipe's reader gives it."""
    problems: list[Any] = []
    root = Node({}, Place("test", (1, 1)))
    read = handoff.read({"sagemaker": {**BASE, **(more or {})}}, root, problems)
    assert read is not None, problems
    return read.sagemaker


def plan_of(chosen: SageMaker, shipped: Sequence[Shipped]) -> Plan:
    """The plan of archives."""
    return make_plan(chosen, [one.facts for one in shipped])


def ship(
    folder: Path,
    name: str = "tiny",
    *,
    kind: str = "sagemaker",
    status: str = "passed",
    section: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Packs a model and writes its manifest; ``more`` replaces parts of that.

    Returns:
        The archive; a folder for the format s3-prefix.
    """
    files = folder / f"files-{name}"
    (files / name / "1").mkdir(parents=True)
    (files / name / "config.pbtxt").write_text(CONFIG % name)
    (files / name / "1/model.py").write_text(MODEL_PY)
    tree = describe_folder(files)
    digest = digest_tree(tree)
    stem = f"{name}-cpu-{digest[:16]}"
    path = folder / stem if kind == "s3-prefix" else folder / f"{stem}.tar.gz"
    if kind == "s3-prefix":
        files.rename(path)
    else:
        archive.pack(tree, path)
    return describe(path, tree, name, kind=kind, status=status, section=section, **more)


def describe(
    path: Path,
    tree: dict[str, File],
    name: str,
    *,
    kind: str = "sagemaker",
    status: str = "passed",
    section: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Writes the manifest of an archive, or of a folder, that holds a tree."""
    digest, size = digest_tree(tree), sum(file.size for file in tree.values())
    view = {"targets": {"cpu": {"hardware": {"instance": "ml.c5.large"}}}, "serving": {}}
    if section is not None:
        view["handoff"] = {"sagemaker": section}
    facts = describe_file(path) if path.is_file() else None
    data: dict[str, Any] = {
        "name": name,
        "task": "sentence-embedding",
        "target": {"name": "cpu", "runtime": "onnxruntime", "precision": "fp32", "triton": "25.09", "vcpus": 2},
        "recipe": {"file": "tiny.yaml", "view": view, "overrides": ()},
        "archive": {
            "file": path.name,
            "format": kind,
            "sha256": facts.sha256 if facts else digest,
            "size": facts.size if facts else size,
            "tree_digest": digest,
            "unpacked_size": size,
            "members": {member: {"sha256": file.sha256, "size": file.size} for member, file in tree.items()},
        },
        "repository": REPOSITORY,
        "reference": {
            "metric": "cosine",
            "outputs": (),
            "controls": (),
            "labels": (),
            "samples": NOTHING,
            "expected": NOTHING,
            "record": {},
        },
        "tools": {},
        "gates": {"tolerances": {"cosine": 1.0}, "constraints": {}, "concurrency": ()},
        "verification": {"status": status},
        **more,
    }
    write_manifest(manifest_path(path), Manifest.model_validate(data))
    return path
