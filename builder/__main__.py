"""``python -m builder`` is ``tritonsmith``."""

from builder.cli import main

main()
