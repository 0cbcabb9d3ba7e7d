"""One bad and one good repository for each rule about graphs, archives and hosts, and for advice."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from builder.lint import Options
from tests.lint.repositories import MODEL_PY, write
from tests.tiny_graphs import ROWS, add_model, config, onnx_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lint.repositories import Files

    Make = Callable[[Path], Path]  # writes below a folder, and gives what is to be linted

ANY = Options()
SINGLE = Options(host="sagemaker")
MULTI = Options(host="sagemaker-mme")

ADD_IN = {"A": "FP32 -1", "B": "FP32 -1"}
ADD_OUT = {"C": "FP32 -1"}
BATCHING = "dynamic_batching { }\n"


@dataclass(frozen=True)
class Case:
    """``bad`` must be found by the rule, ``good`` not; both are otherwise alike."""

    bad: Files | Make
    good: Files | Make
    options: Options = ANY
    good_options: Options | None = None


def make(what: Files | Make, folder: Path) -> Path:
    """Writes a side of a case; gives the path to lint."""
    if callable(what):
        return what(folder)
    path = folder / "repository"
    path.mkdir()
    write(what, path)
    return path


@cache
def add_graph() -> bytes:
    return add_model()


def graph(inputs: dict[str, Any], outputs: dict[str, Any], **more: Any) -> bytes:
    """A graph that passes its first input on as each output."""
    first = next(iter(inputs))
    return onnx_model(inputs, outputs, [("Identity", [first], [name], {}) for name in outputs], **more)


def onnx(text: str = "", *, content: bytes | None = None, name: str = "m", **files: str | bytes) -> Files:
    """An ONNX model ``m``; the config's name is written for it."""
    text = text or config("onnxruntime", ADD_IN, ADD_OUT, more=BATCHING)
    extra = {f"{name}/1/{key.replace('__', '.')}": value for key, value in files.items()}
    return {f"{name}/config.pbtxt": f'name: "{name}"\n{text}', f"{name}/1/model.onnx": content or add_graph(), **extra}


def add(more: str, **options: Any) -> Files:
    """The model ``C = A + B`` with more in its config."""
    return onnx(config("onnxruntime", ADD_IN, ADD_OUT, more=BATCHING + more, **options))


def python(more: str = "", *, name: str = "m", code: str = MODEL_PY, **files: str | bytes) -> Files:
    text = f'name: "{name}"\n' + config("python", {"A": "FP32 1"}, {"C": "FP32 1"}) + more
    extra = {f"{name}/{key.replace('__', '/')}": value for key, value in files.items()}
    return {f"{name}/config.pbtxt": text, f"{name}/1/model.py": code, **extra}


def ensemble(name: str = "e", steps: str = "m", *, more: str = "", platform: str = 'platform: "ensemble"') -> Files:
    maps = 'input_map { key: "A" value: "A" } output_map { key: "C" value: "C" }'
    step = f'step {{ model_name: "{steps}" model_version: -1 {maps} }}'
    io_text = config("x", {"A": "FP32 1"}, {"C": "FP32 1"}).replace('backend: "x"\n', "")
    text = f'name: "{name}"\n{platform}\n{io_text}ensemble_scheduling {{ {step} }}\n{more}'
    return {f"{name}/config.pbtxt": text, f"{name}/1/keep": ""}


def forked(right: str) -> Files:
    """An ensemble whose step ``left``, which may refuse, reads ``IN``; the step ``right`` reads what is named."""
    text = config("x", {"IN": "FP32 1"}, {"OUT": "FP32 1", "L": "FP32 1"}).replace('backend: "x"\n', "")
    maps = "".join(
        f'step {{ model_name: "{name}" model_version: -1 input_map {{ key: "A" value: "{given}" }}'
        f' output_map {{ key: "C" value: "{made}" }} }}\n'
        for name, given, made in (("left", "IN", "L"), ("right", right, "OUT"))
    )
    refusing = MODEL_PY + "\n    def refuse(self):\n        return pb.TritonError('no')\n"
    files = {
        "e/config.pbtxt": f'name: "e"\nplatform: "ensemble"\n{text}ensemble_scheduling {{ {maps} }}\n',
        "e/1/x": "",
    }
    return files | python(name="left", code=refusing) | python(name="right")


def plan(more: str = "", *, head: bytes = b"ftrt", **files: str | bytes) -> Files:
    text = 'name: "m"\n' + config("tensorrt", ADD_IN, ADD_OUT, more=BATCHING) + more
    return {"m/config.pbtxt": text, "m/1/model.plan": head + bytes(60)} | {
        f"m/1/{key}": value for key, value in files.items()
    }


def made_by(*version: int) -> bytes:
    """The head of a plan that tells its TensorRT."""
    return b"ftrt".ljust(24, b"\0") + bytes(version)


def told(more: str, *profiles: tuple[int, int, int]) -> Files:
    """A plan of ours: least length, largest length and largest batch of each profile are in ``build.json``."""
    ranges = [{"batch": [1, 1, most], "sequence": [least, least, longest]} for least, longest, most in profiles]
    return plan(more, **{"build.json": json.dumps({"engines": {"m": {"profiles": ranges}}})})


def rtx() -> Files:
    return {name: content.replace('"tensorrt"', '"tensorrt_rtx"') if isinstance(content, str) else content
            for name, content in plan(head=b"vtrt").items()}  # fmt: skip


def accelerator(name: str, parameters: str = "", kind: str = "gpu") -> Files:
    return add(
        f"optimization {{ execution_accelerators {{ {kind}_execution_accelerator : "
        f'[ {{ name : "{name}" {parameters} }} ] }} }}\n'
    )


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'


TRT_CACHE = 'parameters { key: "trt_engine_cache_enable" value: "1" }'
WARM = 'model_warmup { name: "w" batch_size: 1 inputs { key: "A" value { data_type: %s dims: 1 %s } } }\n'


def with_warm_up(files: Files) -> Files:
    return files | {"m/config.pbtxt": files["m/config.pbtxt"] + WARM % ("TYPE_FP32", "zero_data: true")}


def external(size: int, location: str = "w.bin", *, there: bool = True, used: bool = True) -> Files:
    """A graph whose weights, which it uses or not, are 16 bytes of a file."""
    import onnx as library

    shapes = {"A": ("FLOAT", ROWS), "B": ("FLOAT", ROWS)}
    nodes = [("Add", ["A", "B"], ["AB"], {}), ("Add", ["AB", "W" if used else "A"], ["C"], {})]
    model = library.load_from_string(onnx_model(shapes, {"C": ("FLOAT", ROWS)}, nodes))
    tensor = model.graph.initializer.add(name="W", data_type=1, dims=[4], data_location=1)
    for key, text in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=text)
    files = onnx(content=model.SerializeToString())
    return files | ({"m/1/w.bin": bytes(size)} if there else {})


def stamped(opset: int, ir: int) -> bytes:
    import onnx as library

    model = library.load_from_string(add_graph())
    model.opset_import[0].version, model.ir_version = opset, ir
    return model.SerializeToString()


def packed(files: Files, *, mode: str = "w:gz", name: str = "a.tar.gz", change: Any = None) -> Make:
    """Packs files as an archive; ``change`` may edit each header."""

    def build(folder: Path) -> Path:
        with tarfile.open(folder / name, mode) as tar:
            for path, content in sorted(files.items()):
                data = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(path)
                info.size = len(data)
                tar.addfile(change(info) if change else info, io.BytesIO(data))
        if mode == "w:gz":
            content = bytearray((folder / name).read_bytes())
            content[4:8] = bytes(4)  # gzip's time
            (folder / name).write_bytes(content)
        return folder / name

    return build


def aged(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime = 1
    return info


def escaping(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.name = f"../{info.name}"
    return info


def linked(files: Files, name: str, target: str) -> Make:
    """Files, and a link."""

    def build(folder: Path) -> Path:
        path = make(files, folder)
        (path / name).parent.mkdir(exist_ok=True, parents=True)
        (path / name).symlink_to(target)
        return path

    return build


def environment(python_version: str) -> bytes:
    """A packed environment, as conda-pack makes them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name in ("bin/activate", f"lib/python{python_version}/os.py"):
            tar.addfile(tarfile.TarInfo(name))
    return stream.getvalue()


def env(host: Options, **variables: str) -> Options:
    return Options(host=host.host, environment=tuple(variables.items()))


ENV_PATH = parameter("EXECUTION_ENV_PATH", "$$TRITON_MODEL_DIRECTORY/env.tar.gz")
BLS = MODEL_PY + '\n    def ask(self):\n        return pb.InferenceRequest(model_name="other", inputs=[])\n'
OTHER = python(name="other")
T = "SAGEMAKER_TRITON_"
DEFAULT = {f"{T}DEFAULT_MODEL_NAME": "m"}
SEQUENCE = """\
sequence_batching { control_input { name: "B" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } } }
"""


def sequence(dtype: str) -> Files:
    content = graph({"A": ("FLOAT", ROWS), "B": (dtype, ["batch", 1])}, {"C": ("FLOAT", ROWS)})
    return onnx(config("onnxruntime", {"A": "FP32 -1"}, ADD_OUT, more=SEQUENCE), content=content)


def scalar_list(kind: str) -> bytes:
    """A graph with an output that is no tensor."""
    import onnx as library

    model = library.load_from_string(add_graph())
    if kind == "sequence":
        model.graph.output[0].type.sequence_type.elem_type.tensor_type.elem_type = 1
    return model.SerializeToString()


def custom(domain: str) -> bytes:
    import onnx as library

    content = onnx_model({"A": ("FLOAT", ROWS)}, {"C": ("FLOAT", ROWS)}, [("Gelu", ["A"], ["C"], {"domain": domain})])
    model = library.load_from_string(content)
    model.opset_import.add(domain=domain, version=1)
    return model.SerializeToString()


T4 = 'cc_model_filenames { key: "7.5" value: "t4.plan" }'
ONE_IN = config("onnxruntime", {"A": "FP32 -1"}, ADD_OUT, more=BATCHING)

CASES: dict[str, Case] = {
    "A1": Case(packed(python(), mode="w", name="a.tar"), packed(python()), SINGLE),
    "A2": Case({"config.pbtxt": "", "1/model.py": ""}, python(), SINGLE),
    "A3": Case(python() | {".ipynb_checkpoints/x": ""}, python(), SINGLE),
    "A5": Case({k.replace("/1/", "/2/"): v for k, v in python().items()}, python(), MULTI),
    "A6": Case(python() | ensemble(platform='platform : "ensemble"'), python() | ensemble(), MULTI),
    "A7": Case({f"m{n}/1/model.py": "" for n in range(6)}, {f"m{n}/1/model.py": "" for n in range(5)}, MULTI),
    "A8": Case({name.removeprefix("e/"): text for name, text in ensemble().items()}, python() | ensemble(), MULTI),
    "A31": Case({"m/config.pbtxt": 'backend: "python"'}, {"m/config.pbtxt": 'name: "m" backend: "python"'}),
    "A10": Case(python() | {"config.pbtxt": ""}, python(), MULTI),
    "A11": Case(packed(python(), change=escaping), packed(python())),
    "A12": Case(python() | {"e/config.pbtxt": ensemble()["e/config.pbtxt"], "e/1/": ""}, python() | ensemble(), SINGLE),
    "A13": Case(python() | {"m/1/__pycache__/x.pyc": ""}, python()),
    "A14": Case(packed(python(), change=aged), packed(python())),
    "A18": Case({k.replace("model.onnx", "graph.onnx"): v for k, v in onnx().items()}, onnx()),
    "A30": Case(plan(T4),
                plan(T4, **{"t4.plan": b"ftrt"})),
    "A32": Case(linked(python(), "m/1/weights", "/dev/null"), linked(python(), "m/1/weights", "model.py"), SINGLE),
    "C4": Case(onnx(config("onnxruntime", {"A": "FP32 -1", "b": "FP32 -1"}, ADD_OUT)), onnx()),
    "C5": Case(onnx(config("onnxruntime", ADD_IN, {"C": "FP16 -1"})), onnx()),
    "C6": Case(onnx(config("onnxruntime", ADD_IN, {"C": "FP32 -1 -1"})), onnx()),
    "C7": Case(accelerator("tensorrt", 'parameters { key: "trt_profile_max_shapes" value: "A:4x9,B:8x9" }'),
               accelerator("tensorrt", 'parameters { key: "trt_profile_max_shapes" value: "A:8x9,B:8x9" }')),
    "C8": Case(told('instance_group { profile: "1" }', (2, 9, 8)), told('instance_group { profile: "0" }', (2, 9, 8))),
    "C46": Case(told("", (2, 9, 7)), told("", (2, 9, 8))),
    "C47": Case(told("instance_group { }", (2, 9, 8), (10, 20, 8)),
                told('instance_group { profile: [ "0", "1" ] }', (2, 9, 8), (10, 20, 8))),
    "C10": Case(onnx(), onnx(config("onnxruntime", {"A": "FP32 4", "B": "FP32 4"}, ADD_OUT, more=BATCHING))),
    "C11": Case(onnx(config("onnxruntime", ADD_IN, ADD_OUT)), onnx()),
    "O15": Case(plan("instance_group { kind: KIND_CPU }"), plan("instance_group { kind: KIND_GPU }")),
    "C50": Case(python(WARM % ("TYPE_INT64", "random_data: true")), python(WARM % ("TYPE_FP32", "random_data: true"))),
    "C15": Case(python("response_cache { enable: true }"), python("response_cache { enable: true }"), SINGLE,
                env(SINGLE, **{f"{T}ADDITIONAL_ARGS": "--cache-config=local,size=9"})),
    "C16": Case(plan("optimization { cuda { graphs: true } }"),
                plan("optimization { cuda { graphs: true graph_spec { batch_size: 1 } } }")),
    "C17": Case(python("instance_group { rate_limiter { priority: 1 } }"),
                python("instance_group { rate_limiter { priority: 1 } }"), SINGLE,
                env(SINGLE, **{f"{T}ADDITIONAL_ARGS": "--rate-limit=execution_count"})),
    "C18": Case(python('model_repository_agents { agents { name: "checksum" } }'),
                python('model_repository_agents { agents { name: "mine" } }')),
    "C21": Case(onnx('backend: "onnxruntime"'), onnx('backend: "onnxruntime" max_batch_size: 8 dynamic_batching { }')),
    "E5": Case(python(code=BLS) | OTHER, python(code=BLS) | OTHER, env(SINGLE, **DEFAULT),
               env(SINGLE, **DEFAULT, **{f"{T}ADDITIONAL_ARGS": "--load-model=other"})),
    "E7": Case(python("instance_group { kind: KIND_GPU }") | ensemble(),
               python("instance_group { kind: KIND_CPU }") | ensemble()),
    "E16": Case(forked("IN"), forked("L")),
    "E8": Case(python() | ensemble(), python() | ensemble(), env(SINGLE, **DEFAULT),
               env(SINGLE, **{f"{T}DEFAULT_MODEL_NAME": "e"})),
    "E9": Case(python("model_transaction_policy { decoupled: true }"),
               python("model_transaction_policy { decoupled: true }"), SINGLE,
               env(SINGLE, **{f"{T}INFERENCE_TYPE": "generate"})),
    "H1": Case(python(), python(), env(SINGLE, **{f"{T}ADDITIONAL_ARGS": "--a=" + 2000 * "x"}), env(SINGLE, A="b")),
    "H2": Case(python(), python(), env(MULTI, SAGEMAKER_MULTI_MODEL="True"), env(MULTI, SAGEMAKER_MULTI_MODEL="true")),
    "H3": Case(python(), python(), env(MULTI, **{f"{T}PING_MODE": "live"}),
               env(MULTI, **{f"{T}PING_MODE": "live", f"{T}OVERRIDE_PING_MODE": "live"})),
    "H4": Case(python(), python(), SINGLE, env(SINGLE, **{f"{T}LOG_VERBOSE": "false"})),
    "H5": Case(python(), python(), env(MULTI, **{f"{T}DISABLE_MODEL_NAMESPACING": "true"}),
               env(MULTI, **{f"{T}DISABLE_MODEL_NAMESPACING": "false"})),
    "H6": Case(python(), python(), env(SINGLE, **{f"{T}DEFAULT_MODEL_NAME": "x"}), env(SINGLE, **DEFAULT)),
    "H7": Case(python(), python(), env(SINGLE, **{f"{T}ADDITIONAL_ARGS": "--load-model='a'"}),
               env(SINGLE, **{f"{T}ADDITIONAL_ARGS": "--load-model=a --load-model b"})),
    "H8": Case(python(), python(), env(SINGLE, **{f"{T}INFERENCE_TYPE": "stream"}),
               env(SINGLE, **{f"{T}INFERENCE_TYPE": "generate_stream"})),
    "H18": Case(python(), python(), env(MULTI, **DEFAULT), MULTI),
    "O1": Case(accelerator("tensorrt", 'parameters { key: "fp16" value: "1" }'), accelerator("tensorrt", TRT_CACHE)),
    "O2": Case(external(8), external(16)),
    "O3": Case(onnx(content=stamped(26, 13)), onnx(content=stamped(23, 11))),
    "O4": Case(accelerator("tensorrt"), with_warm_up(accelerator("tensorrt", TRT_CACHE))),
    "O5": Case(add(parameter("execution_mode", "2")), add(parameter("execution_mode", "1"))),
    "O6": Case(onnx(content=b"version https://git-lfs.github.com/spec/v1\n"), onnx()),
    "O7": Case(onnx(content=scalar_list("sequence")), onnx(content=scalar_list("tensor"))),
    "O8": Case(onnx(onnx()["m/config.pbtxt"].partition("\n")[2].replace('"B"', '"B" optional: true')), onnx()),
    "O9": Case(onnx(config("onnxruntime", ADD_IN, {"C": "FP32 4"})), onnx()),
    "O10": Case(onnx(config("onnxruntime", {"A": "FP32 -1"}, {"7": "FP32 -1"}),
                     content=graph({"A": ("FLOAT", ROWS)}, {"7": ("FLOAT", ROWS)})), onnx()),
    "O11": Case(sequence("FLOAT"), sequence("INT32")),
    "O12": Case(onnx(ONE_IN, content=custom("my.own")), onnx(ONE_IN, content=custom("com.microsoft"))),
    "O13": Case(plan(parameter("execution_context_allocation_strategy", "x")),
                plan(parameter("execution_context_allocation_strategy", "STATIC"))),
    "O14": Case(external(16, "/opt/w.bin"), external(16), SINGLE),
    "P1": Case(python(parameter("EXECUTION_ENV_PATH", "/opt/env.tar.gz")), python(ENV_PATH), SINGLE),
    "P2": Case(python(ENV_PATH, **{"env.tar.gz": environment("3.10")}),
               python(ENV_PATH, **{"env.tar.gz": environment("3.12")})),
    "P3": Case(python(parameter("EXECUTION_ENV_PATH", "$$TRITON_MODEL_DIRECTORY/env"), env__bin__python="x"),
               python(parameter("EXECUTION_ENV_PATH", "$$TRITON_MODEL_DIRECTORY/env"), env__bin__activate="x")),
    "P4": Case(python(code=MODEL_PY + 'T = AutoTokenizer.from_pretrained("org/name")\n'),
               python(code=MODEL_PY + "T = AutoTokenizer.from_pretrained(HERE)\n")),
    "R1": Case(python().copy() | {"m/config.pbtxt": 'name: "m"\n' + config("python", {"A": "FP32 3 512 512"}, {})},
               python(), SINGLE),
    "V1": Case(python(), python(), Options(host="sagemaker", release="25.05"), SINGLE),
    "V2": Case(plan(head=b"vtrt"), plan()),
    "V3": Case(plan(), plan(), SINGLE, Options(host="sagemaker", release="25.04")),
    "V4": Case(
        {name.replace("model.plan", "t4.plan"): content for name, content in plan(T4).items()},
        plan(T4, **{"t4.plan": b"ftrt"}),
    ),
    "V7": Case(plan(head=made_by(10, 14, 1)), plan(head=made_by(10, 13, 3))),
    "V8": Case(plan(head=made_by(10, 9, 0)), plan(head=made_by(10, 13, 3))),
    "V9": Case(rtx(), plan(), SINGLE),
    "V6": Case(plan(head=b"\x08\x07\x12\x00"), plan()),
}  # fmt: skip
