"""A benchmark is run once in a while: what it imports must be there all the time."""

import importlib

import pytest

from benchmarks.__main__ import BENCHMARKS


@pytest.mark.parametrize("module", sorted(set(BENCHMARKS.values())))
def test_it_can_be_imported(module):
    assert callable(importlib.import_module(module).run)
