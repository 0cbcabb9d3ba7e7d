"""The contract between a host and a server, gone through on the real thing: SageMaker's, of Triton's own front end.

``multi_model`` and ``single_model`` play SageMaker's part against a tritonserver of this machine, and write down, call
by call, what was expected and what was seen; ``serve_script`` decides what the image's ``serve`` decides. What an
archive's files alone can tell is for :mod:`builder.lint`.
"""

from builder.verify.contract.multi_model import prove_multi_model
from builder.verify.contract.report import Check, Proven, Subject
from builder.verify.contract.serve_script import Decision, decide
from builder.verify.contract.single_model import prove_single_model

__all__ = ["Check", "Decision", "Proven", "Subject", "decide", "prove_multi_model", "prove_single_model"]
