"""One bad and one good repository for each rule of Triton's core, its ensembles and its Python backend.

Both sides of a case are alike but for what the rule is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.lint import Options
from builder.lint.options import STRICT
from tests.lint.repositories import COMPLETE_PY, MODEL_PY, ensemble, python, step, step_model
from tests.tiny_graphs import config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.lint.repositories import Files

OLD: Final = Options(release="24.10")
NEW: Final = Options(release="26.06")
CPU: Final = Options(gpus=0)
ALWAYS: Final = Options(mode=STRICT)

INPUTS: Final = {"A": "FP32 2"}
OUTPUTS: Final = {"C": "FP32 -1"}


@dataclass(frozen=True)
class Case:
    """``bad`` has a finding of the rule, ``good`` none; ``line`` is where the finding points, 0 for nowhere."""

    bad: Files
    good: Files
    line: int = 0
    options: Options = OLD


def files(more: str = "", *, code: str = MODEL_PY, batch: int = 4, inner: Mapping[str, str] = INPUTS) -> Files:
    """A Python model ``m``: five lines of config, and then ``more``."""
    text = config("python", inner, OUTPUTS, max_batch_size=batch)
    return python("m", text + more, code=code)


def changed(old: str, new: str, base: Files | None = None, path: str = "m/config.pbtxt") -> Files:
    """A repository with one text for another."""
    base = base or files()
    assert old in str(base[path])
    return {**base, path: str(base[path]).replace(old, new)}


def without(path: str, base: Files | None = None) -> Files:
    """A repository without one file."""
    return {one: content for one, content in (base or files()).items() if one != path}


def pair(bad: str, good: str, *, line: int = 5, options: Options = OLD, batch: int = 4) -> Case:
    """Two ways to go on with a config."""
    return Case(files(bad, batch=batch), files(good, batch=batch), line, options)


def code(bad: str, good: str = MODEL_PY, *, line: int = 0) -> Case:
    """Two model.py."""
    return Case(files(code=bad), files(code=good), line)


ONE: Final = step("one", {"A": "IN"}, {"C": "OUT"})
ENSEMBLE: Final = ensemble("e", {"IN": "FP32 2"}, {"OUT": "FP32 -1"}, ONE, max_batch_size=4)
CHAIN: Final = ENSEMBLE | step_model("one", INPUTS, OUTPUTS, max_batch_size=4)
CONFIG: Final = "e/config.pbtxt"


def chain(old: str, new: str, *, line: int, path: str = CONFIG) -> Case:
    """The ensemble of one step, and what breaks it."""
    return Case(changed(old, new, CHAIN, path), CHAIN, line)


def two_streams(decoupled: str) -> Files:
    """Two models whose outputs meet in a third; those that are named are decoupled."""
    steps = (
        step("a", {"X": "IN"}, {"Y": "L"})
        + step("b", {"X": "IN"}, {"Y": "R"})
        + step("c", {"L": "L", "R": "R"}, {"Y": "OUT"})
    )
    both = ensemble("e", {"IN": "FP32 1"}, {"OUT": "FP32 1"}, steps)
    one = {"X": "FP32 1"}, {"Y": "FP32 1"}
    made = both | step_model("a", *one) | step_model("b", *one)
    made |= step_model("c", {"L": "FP32 1", "R": "FP32 1"}, {"Y": "FP32 1"})
    for name in decoupled:
        path = f"{name}/config.pbtxt"
        made[path] = str(made[path]) + "model_transaction_policy { decoupled: true }\n"
    return made


def circle(last: str) -> Files:
    """An ensemble in an ensemble; the inner one calls ``last``."""
    tensors = {"IN": "FP32 2"}, {"OUT": "FP32 2"}
    made = ensemble("e", *tensors, step("f", {"IN": "IN"}, {"OUT": "OUT"}))
    made |= ensemble("f", *tensors, step(last, {"IN": "IN"}, {"OUT": "OUT"}))
    return made | step_model("leaf", *tensors)


def sequence(more: str) -> str:
    return f"sequence_batching {{ {more} }}\n"


def control(values: str, kind: str = "START", name: str = "S") -> str:
    return f'control_input {{ name: "{name}" control {{ kind: CONTROL_SEQUENCE_{kind} {values} }} }}'


def state(first: str) -> str:
    return sequence(
        f'state {{ input_name: "I" output_name: "O" data_type: TYPE_FP32 dims: 2 initial_state {{ {first} }} }}'
    )


def warmup(inner: str) -> str:
    return f'model_warmup {{ name: "w" batch_size: 1 inputs {{ key: "A" value {{ {inner} }} }} }}\n'


def environment(path: str) -> str:
    value = f'value {{ string_value: "$$TRITON_MODEL_DIRECTORY/{path}" }}'
    return f'parameters {{ key: "EXECUTION_ENV_PATH" {value} }}\n'


PACKED: Final[Files] = {"m/env/bin/activate": ""}
YES: Final = "int32_false_true: [ 0, 1 ]"
BATCH_INPUT: Final = "kind: BATCH_ELEMENT_COUNT target_name: 'N' data_type: TYPE_FP32"
BATCH_OUTPUT: Final = "kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: 'A'"

CASES: Final[Mapping[str, Case]] = {
    # folders
    "A4": Case({"m/config.pbtxt": files()["m/config.pbtxt"], "m/01/model.py": MODEL_PY}, files()),
    "A9": pair('name: "other"\n', 'name: "m"\n'),
    "A19": Case(files() | {"m/data": "->nowhere"}, files() | {"m/data": "->1"}),
    "A20": Case(files() | {"m/99999999999999999999/": ""}, files() | {"m/9/model.py": MODEL_PY}),
    "A21": Case(without("m/config.pbtxt"), files(), options=ALWAYS),
    # configs
    "C1": pair("max_batch: 3\n", ""),
    "C23": Case(files("model_metrics { }\n"), files(), 5),
    "C2": pair('platform: "ensemble"\n', "", line=1),
    "C24": Case(changed('"python"', '"pyhton"'), files(), 1),
    "C26": Case(files(batch=-1), files(batch=0), 2),
    "C9": pair(
        "dynamic_batching { preferred_batch_size: [ 2,\n 5 ] }",
        "dynamic_batching { preferred_batch_size: [ 2,\n 4 ] }",
        line=6,
    ),
    "C19": pair(
        "dynamic_batching { priority_levels: 2 }", "dynamic_batching { priority_levels: 2 default_priority_level: 2 }"
    ),
    "C27": pair(
        "dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }",
        "dynamic_batching { preserve_ordering: true priority_levels: 1 default_priority_level: 1 }",
    ),
    "C28": pair(f"response_cache {{ enable: true }}\n{sequence('')}", f"response_cache {{ }}\n{sequence('')}"),
    "C20": pair("version_policy { specific { versions: 2 } }", "version_policy { specific { versions: 1 } }"),
    "C41": pair(
        'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "x.so" } } sequence_batching { }',
        'parameters { key: "OTHER_PATH" value { string_value: "x.so" } } sequence_batching { }',
    ),
    "C33": Case(changed(" data_type: TYPE_FP32", ""), files(), 3),
    "C34": Case(changed("[2]", "[0]"), files(), 3),
    "C22": Case(
        changed("dims: [2]", "dims: [2] reshape { shape: [ 3 ] }"),
        changed("dims: [2]", "dims: [2] reshape { shape: [ 1, 2 ] }"),
        3,
    ),
    "C35": Case(
        changed("dims: [2]", "format: FORMAT_NCHW dims: [2]"), changed("dims: [2]", "format: FORMAT_NONE dims: [2]"), 3
    ),
    "C36": Case(
        changed("dims: [2]", "dims: [2] is_shape_tensor: true"),
        changed("dims: [2]", "dims: [2] is_shape_tensor: false"),
        3,
    ),
    "C37": pair(f"batch_input {{ {BATCH_INPUT} }}", f"batch_input {{ {BATCH_INPUT} source_input: 'A' }}"),
    "C38": pair(
        f"batch_output {{ {BATCH_OUTPUT} target_name: 'A' }}", f"batch_output {{ {BATCH_OUTPUT} target_name: 'C' }}"
    ),
    "C42": pair(f"batch_output {{ {BATCH_OUTPUT} }}", f"batch_output {{ {BATCH_OUTPUT} target_name: 'C' }}"),
    "C40": Case(
        changed("dims: [-1]", 'dims: [-1] label_filename: "l.txt"'),
        changed("dims: [-1]", 'dims: [-1] label_filename: "l.txt"') | {"m/l.txt": "yes\nno\n"},
        4,
    ),
    "C12": pair("instance_group { kind: KIND_GPU }", "instance_group { kind: KIND_AUTO }", options=CPU),
    "C39": pair('instance_group { profile: "0" }', "instance_group { }"),
    "C13": pair(
        warmup("data_type: TYPE_FP32 dims: 3 zero_data: true"), warmup("data_type: TYPE_FP32 dims: 2 zero_data: true")
    ),
    "C29": pair(
        sequence(control(YES) + control(YES, "END")), sequence(control(YES) + control(YES, "END", "E"))
    ),
    "C30": pair(sequence(control("")), sequence(control(YES))),
    "C31": pair(
        sequence("direct { minimum_slot_utilization: 2 }"), sequence("direct { minimum_slot_utilization: 0.5 }")
    ),
    "C32": pair(
        state('name: "i" data_type: TYPE_FP32 dims: 3 zero_data: true'),
        state('name: "i" data_type: TYPE_FP32 dims: 2 zero_data: true'),
    ),
    "C43": pair(
        "model_metrics { metric_control { histogram_options { buckets: 1 } } }",
        'model_metrics { metric_control { metric_identifier { family: "f" } histogram_options { buckets: 1 } } }',
        options=NEW,
    ),
    "C44": Case(
        changed("dims: [-1]", 'dims: [-1] label_filename: "../l.txt"') | {"l.txt": ""},
        changed("dims: [-1]", 'dims: [-1] label_filename: "1/../l.txt"') | {"m/l.txt": ""},
        4,
        NEW,
    ),
    "C45": pair(
        'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "x.so" } }',
        'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "/models/m/x.so" } }',
        options=NEW,
    ),
    # ensembles; their steps begin in line 7
    "E14": chain('platform: "ensemble"', 'backend: "python"', line=6),
    "E4": chain("model_version: -1\n", 'model_version: -1 } step { model_name: "one"', line=7),
    "E1": chain('value: "OUT"', 'value: "OUX"', line=5),
    "E6": chain("ensemble_scheduling", "instance_group { }\nensemble_scheduling", line=6),
    "E11": Case(ENSEMBLE, CHAIN, 7),
    "E12": Case(circle("e"), circle("leaf"), 7),
    "E15": chain("model_version: -1", "", line=7),
    "E3": chain("max_batch_size: 4", "max_batch_size: 5", line=7),
    "E13": chain('key: "A"', 'key: "B"', line=7),
    "E2": chain("TYPE_FP32", "TYPE_FP64", line=8),
    "E10": Case(two_streams("a"), two_streams(""), 6),
    # Python models
    "P6": Case(without("m/1/model.py") | {"m/1/": ""}, files()),
    "P16": Case({path.replace("/1/", "/-1/"): text for path, text in files().items()}, files()),
    "P9": Case(
        files('default_model_filename: "a.b.py"') | {"m/1/a.b.py": MODEL_PY},
        files('default_model_filename: "ab.py"') | {"m/1/ab.py": MODEL_PY},
        5,
    ),
    "P5": code(MODEL_PY.replace("(self, args):", "(self, args)"), line=6),
    "P7": code(MODEL_PY.replace("class TritonPythonModel", "class Model")),
    "P8": code(MODEL_PY.replace("execute", "run")),
    "P17": Case(
        files(warmup("data_type: TYPE_FP32 dims: 2 zero_data: true"), code=MODEL_PY.replace("execute", "run")),
        files(warmup("data_type: TYPE_FP32 dims: 2 zero_data: true")),
    ),
    "P18": Case(
        files(warmup("data_type: TYPE_FP32 dims: 2 zero_data: true").replace("batch_size: 1", "batch_size: 5")),
        files(warmup("data_type: TYPE_FP32 dims: 2 zero_data: true").replace("batch_size: 1", "batch_size: 4")),
        5,
    ),
    "P11": Case(
        files(code=COMPLETE_PY.replace("[-1]", "[3]"), batch=8),
        files(code=COMPLETE_PY.replace("[-1]", "[2]").replace("[4]", "[-1]"), batch=8),
        17,
    ),
    "P10": pair(
        'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "true" } }',
        'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "yes" } }',
    ),
    "P14": Case(files(environment("environment")) | PACKED, files(environment("env")) | PACKED, 5),
    "P12": Case({path.replace("m/", "m m/"): text for path, text in files().items()}, files()),
    "P15": pair('instance_group { name: "a;b" }', 'instance_group { name: "a b" }', options=NEW),
    "P13": pair('runtime: "model.py"', 'runtime: "libtriton_python.so"'),
}  # fmt: skip
