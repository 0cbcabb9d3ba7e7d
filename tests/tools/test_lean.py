"""Importing transformers without what nobody needs here, and leaving no trace of that."""

import gc
import subprocess
import sys

import pytest

from builder.tools.lean import without_garbage_collection

_SCRIPT = """
import gc, sys, threading, torch
before = torch.distributed.is_available()
from builder.tools import lean
found, start = [], threading.Barrier(2)
def ask():
    start.wait()
    transformers = lean.transformers()
    found.append((transformers, transformers.AutoConfig))
threads = [threading.Thread(target=ask) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(found) == 2 and found[0] == found[1], found
from transformers.models.bert import modeling_bert
assert gc.isenabled()
assert torch.distributed.is_available() == before
assert not {"scipy", "sklearn", "torch.distributed.tensor"} & set(sys.modules), sorted(sys.modules)
import scipy, sklearn, torch.distributed.tensor
assert lean.transformers() is found[0][0]
"""


def test_threads_that_ask_at_once_get_all_but_packages_for_training_which_can_be_imported_afterwards():
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_garbage_is_collected_again_even_after_an_error():
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), without_garbage_collection():
        assert 1 / gc.isenabled()
    assert gc.isenabled()
