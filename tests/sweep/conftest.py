"""A repository of anybody's: a Python model whose mood is a parameter, so that one server shows all."""

from __future__ import annotations

import pytest

MODEL = '''
import json
import os
import signal
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Twice the numbers, and the text; but for its mood."""

    def initialize(self, args):
        parameters = json.loads(args["model_config"]).get("parameters", {})
        self.mood = parameters.get("mood", {}).get("string_value", "right")
        self.calls = 0

    def execute(self, requests):
        self.calls += len(requests)
        if self.mood == "slow":
            time.sleep(0.01)
        if self.mood == "tiring":
            time.sleep(0.0001 * self.calls)
        if self.mood == "hanging" and self.calls > 100:
            time.sleep(60)
        if self.mood == "deadly" and self.calls > 100:
            os.kill(os.getpgrp(), signal.SIGKILL)
        return [self.answer(request, len(requests)) for request in requests]

    def answer(self, request, together):
        x, t = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("X", "T"))
        if self.mood == "refusing" and self.calls > 100:
            return pb_utils.InferenceResponse([], pb_utils.TritonError("enough of this"))
        y = (x * 2).astype(np.float32)
        if self.mood == "muddled" and together > 1:
            y += 1
        if self.mood == "no number" and together > 1:
            y[:] = np.nan
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", y), pb_utils.Tensor("S", t)])
'''

CONFIG = """
name: "moody" backend: "python" max_batch_size: 8
input [{name: "X", data_type: TYPE_FP32, dims: [-1]}, {name: "T", data_type: TYPE_STRING, dims: [1]}]
output [{name: "Y", data_type: TYPE_FP32, dims: [-1]}, {name: "S", data_type: TYPE_STRING, dims: [1]}]
instance_group [{count: 1, kind: KIND_CPU}]
dynamic_batching {}
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anybody") / "repository"
    (folder / "moody/1").mkdir(parents=True)
    (folder / "moody/config.pbtxt").write_text(CONFIG)
    (folder / "moody/1/model.py").write_text(MODEL)
    return folder
