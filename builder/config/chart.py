"""A pipeline as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.config.dag import REQUEST

if TYPE_CHECKING:
    from builder.config.dag import Dag


def mermaid(dag: Dag) -> str:
    """The pipeline as a Mermaid flow chart, as GitHub and most editors draw it."""
    lines = ["flowchart LR", f"  {REQUEST}([{REQUEST}])", *(f"  {_node(step.name)}[{step.name}]" for step in dag.steps)]
    lines += [
        f'  {_node(edge.source)} -->|"{edge.given.name} {edge.given.dtype}"| {_node(edge.step)}' for edge in dag.edges
    ]
    lines.append("  answer([answer])")
    for name, (step, port) in dag.outputs.items():
        lines.append(f'  {_node(step)} -->|"{name} {port.dtype}"| answer')
    return "\n".join(lines) + "\n"


def _node(step: str) -> str:
    """An id that is no word of Mermaid's own (``end`` is one)."""
    return REQUEST if step == REQUEST else "s_" + "".join(char if char.isalnum() else "_" for char in step)
