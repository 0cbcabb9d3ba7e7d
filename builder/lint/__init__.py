"""Rules over model repositories, archives and recipes: will it load, can it be hosted, is it wise?"""

from builder.lint.engine import check, lint
from builder.lint.finding import ADVICE, HOSTING_ERROR, LOAD_ERROR, Finding, Report
from builder.lint.options import Options

__all__ = ["ADVICE", "HOSTING_ERROR", "LOAD_ERROR", "Finding", "Options", "Report", "check", "lint"]
