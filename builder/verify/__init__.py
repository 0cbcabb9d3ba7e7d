"""The proof of an archive: what ships is what was verified.

``measure`` unpacks it, or takes a folder as it is, serves it with a real Triton, asks it real text and writes down
figures; ``judge`` holds them against tolerances and constraints. Both need the archive and the files beside it, and no
Hugging Face library.
"""

from builder.verify.facts import ArchiveFacts, check_files, from_packed, from_reference
from builder.verify.judge import FAILED, INCONCLUSIVE, PASSED, Judge
from builder.verify.measure import Measure
from builder.verify.proof import Proof, verify_archive
from builder.verify.rows import load_rows
from builder.verify.samples import DEFAULT_SAMPLES, load_images, load_samples, read_samples

__all__ = [
    "DEFAULT_SAMPLES",
    "FAILED",
    "INCONCLUSIVE",
    "PASSED",
    "ArchiveFacts",
    "Judge",
    "Measure",
    "Proof",
    "check_files",
    "from_packed",
    "from_reference",
    "load_images",
    "load_rows",
    "load_samples",
    "read_samples",
    "verify_archive",
]
