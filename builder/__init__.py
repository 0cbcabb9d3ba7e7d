"""tritonsmith: a build system for Triton model repositories."""

__version__ = "0.1.0"
