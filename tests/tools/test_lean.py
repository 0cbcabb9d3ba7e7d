"""Importing transformers without what nobody needs here, and leaving no trace of that."""

import gc
import subprocess
import sys

import pytest

from builder.tools.lean import without_garbage_collection

_SCRIPT = """
import gc, sys, torch
before = torch.distributed.is_available()
from builder.tools import lean
transformers = lean.transformers()
from transformers.models.bert import modeling_bert
assert gc.isenabled()
assert torch.distributed.is_available() == before
assert not {"scipy", "sklearn", "torch.distributed.tensor"} & set(sys.modules), sorted(sys.modules)
import scipy, sklearn, torch.distributed.tensor
assert lean.transformers() is transformers
"""


def test_packages_for_training_stay_out_and_can_be_imported_afterwards():
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


_THREADS = """
import threading
from builder.tools import lean
found, start = [], threading.Barrier(2)
def ask():
    start.wait()
    found.append(lean.transformers().AutoConfig)
threads = [threading.Thread(target=ask) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(found) == 2 and found[0] is found[1], found
"""


def test_two_threads_that_ask_at_once_both_get_the_whole_module():
    done = subprocess.run([sys.executable, "-c", _THREADS], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_garbage_is_collected_again_even_after_an_error():
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), without_garbage_collection():
        assert 1 / gc.isenabled()
    assert gc.isenabled()
