"""Files of labels: clients that ask an output for its classes get the model's names of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.artifacts import Json, Tensor
    from builder.config.host import Problem


def labelled(serving: Mapping[str, Json]) -> dict[str, tuple[int, str]]:
    """Outputs whose labels are to be written: name → index in ``serving.output``, name of the file."""
    entries = enumerate(serving.get("output") or ())
    return {entry["name"]: (index, entry["label_filename"]) for index, entry in entries if "label_filename" in entry}


def label_files(serving: Mapping[str, Json], labels: Sequence[str]) -> dict[str, bytes]:
    """The files, in the model's folder: a label in each line, in the order of the output's last axis."""
    text = "".join(f"{label}\n" for label in labels)
    return {filename: text.encode() for _, filename in labelled(serving).values()}


def label_problems(serving: Mapping[str, Json], labels: Sequence[str], outputs: Sequence[Tensor]) -> Iterator[Problem]:
    """Why the labels cannot be those of an output; paths are those of ``serving``."""
    sizes = {tensor.name: tensor.shape[-1] for tensor in outputs}
    for name, (index, _) in labelled(serving).items():
        place = ("output", index, "label_filename")
        if not labels:
            yield place, "the model has no labels (id2label in its config.json)"
        elif sizes.get(name, -1) not in {-1, len(labels)}:
            yield place, f"{name} has {sizes[name]} values, but the model has {len(labels)} labels"
        elif any(not label or len(label.splitlines()) != 1 for label in labels):
            yield place, "a label of the model is empty, or has more than one line: Triton reads one from each line"
