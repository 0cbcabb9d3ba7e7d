"""Measured comparisons of tritonsmith with its peers: ``scripts/bench``. See ``benchmarks/README.md``."""
