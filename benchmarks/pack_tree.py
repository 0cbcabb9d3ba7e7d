"""One packing by tritonsmith, as a process of its own: ``python -m benchmarks.pack_tree TREE_JSON ARCHIVE``.

``TREE_JSON`` holds member name → file with its sha256: what the stage ``pack`` gets from the stages before it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from builder.artifacts import File
from builder.core.codec import from_json
from builder.tools.archive import pack


def main(tree_path: Path, out: Path) -> None:
    """Packs the tree into ``out``."""
    tree = json.loads(tree_path.read_text(encoding="utf-8"))
    pack({name: from_json(File, file) for name, file in tree.items()}, out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
