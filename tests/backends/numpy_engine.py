"""In tests, put in place of ``tritonsmith_engine.py``: an engine that numpy computes. Nothing else is replaced.

Its outputs are ``SUM`` (``A + B``, FP32 [rows, length]) and ``RUN`` (INT32 [rows, 2]: the profile that ran it, and how
many runs there were so far). A is INT32, B is FP32.
"""

import numpy as np
from tritonsmith_plans import check_head, plan_path
from tritonsmith_profiles import Profile, of_instance

CAPABILITY = "8.9"
ROWS = ((1, 1, 2), (1, 4, 8))  # of each profile: least, optimal, largest
LENGTHS = ((1, 4, 4), (1, 6, 16))


class Tensor:
    def __init__(self, name, data_type, kind, dims):
        self.name, self.data_type, self.numpy, self.dims = name, data_type, kind, dims


class Runner:
    inputs = (Tensor("A", "TYPE_INT32", np.int32, (-1, -1)), Tensor("B", "TYPE_FP32", np.float32, (-1, -1)))
    outputs = (Tensor("SUM", "TYPE_FP32", np.float32, (-1, -1)), Tensor("RUN", "TYPE_INT32", np.int32, (-1, 2)))

    def __init__(self, library, folder, config, instance, device):
        check_head(plan_path(folder, config, CAPABILITY), library)
        spans = [
            [dict.fromkeys("AB", shape) for shape in zip(rows, lengths, strict=True)]
            for rows, lengths in zip(ROWS, LENGTHS, strict=True)
        ]
        self.profiles = [Profile(index, *spans[index]) for index in of_instance(config, instance, len(spans))]
        self.host = {name: np.zeros(8 * 16 * 4, np.uint8) for name in ("A", "B", "SUM", "RUN")}
        self.runs = 0

    def run(self, profile, shapes):
        self.runs += 1
        rows, length = shapes["A"]
        numbers = {name: self.host[name][: rows * length * 4] for name in ("A", "B", "SUM")}
        np.add(numbers["A"].view(np.int32), numbers["B"].view(np.float32), out=numbers["SUM"].view(np.float32))
        self.host["RUN"][: rows * 8].view(np.int32).reshape(rows, 2)[:] = profile.index, self.runs
        return {"SUM": (rows, length), "RUN": (rows, 2)}
