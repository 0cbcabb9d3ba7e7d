"""A step in a Python environment of its own, packed as conda-pack does it, on the real server."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.artifacts import ModelConfigs
from builder.config.step_settings import SCHEMA
from builder.config.tokenize_step import to_json
from builder.core.digest import describe_file, describe_folder
from builder.errors import ArchiveError, UserError
from builder.package import only_python
from builder.package.composition import CompositionInputs, PackageComposition
from builder.package.own import Own
from builder.package.user_step import UserStep, digest_environment
from builder.settings import settings
from builder.tools import archive_environment, files, python_env, releases, triton_client, triton_server, user_step
from builder.tools.process import run
from tests.tiny_graphs import config

if TYPE_CHECKING:
    from builder.tools.toolchain import Toolchain

PYTHON = (3, 12)
CODE = """
import sys

import only_there


def run(TEXT):
    where = f"{only_there.WORD} {sys.prefix} {sys.version_info[1]}"
    return {"WHERE": [[f"{where} {text[0].decode()}"] for text in TEXT]}
"""
# As conda-pack's: it finds itself, wherever it was unpacked.
ACTIVATE = 'export PATH="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd):$PATH"\n'
TENSORS = {
    "takes": {"TEXT": {"dtype": "BYTES", "dims": [1]}},
    "gives": {"WHERE": {"dtype": "BYTES", "dims": [1]}},
}


@pytest.fixture(scope="module")
def server_environment(toolchain: Toolchain) -> Path:
    """Of the Python that the step's environment holds."""
    onnxruntime = releases.release("25.09").onnxruntime
    assert onnxruntime is not None
    return python_env.python_environment(toolchain, settings().cache, onnxruntime, minor=PYTHON)


@pytest.fixture(scope="module")
def step(server_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> UserStep:
    """A file of the user's, and an environment with a module that is nowhere else."""
    folder = tmp_path_factory.mktemp("own")
    made = folder / "made"
    python = python_env.find_interpreter(PYTHON).executable
    run([python, "-m", "venv", "--copies", "--without-pip", made], what="venv", timeout_seconds=60)
    (packages,) = made.glob("lib/python3*/site-packages")
    (theirs,) = server_environment.glob("lib/python3*/site-packages")
    for name in ("numpy", "numpy.libs"):
        shutil.copytree(theirs / name, packages / name, ignore=shutil.ignore_patterns("tests", "f2py", "__pycache__"))
    (packages / "only_there.py").write_text("WORD = 'packed'\n")
    (made / "bin/activate").write_text(ACTIVATE)
    (folder / "own.py").write_text(CODE)
    with tarfile.open(folder / "some.tar.gz", "w:gz", compresslevel=1) as tar:
        for top in sorted(made.iterdir()):
            tar.add(top, top.name)
    sha256 = digest_environment(folder / "some.tar.gz")
    return UserStep(folder / "own.py", describe_file(folder / "own.py").sha256, (), folder / "some.tar.gz", sha256)


def package(own: UserStep, out: Path, python: tuple[int, int] = PYTHON) -> Any:
    """The repository of the step alone."""
    text = config("python", {"TEXT": "STRING 1"}, {"WHERE": "STRING 1"}) + (
        'parameters { key: "EXECUTION_ENV_PATH" value { '
        f'string_value: "$$TRITON_MODEL_DIRECTORY/{archive_environment.FILE_NAME}" }} }}\n'
    )
    stated = out.parent / f"{out.name}-stated"
    (stated / "whole-own/1").mkdir(parents=True)
    (stated / "whole-own/config.pbtxt").write_text(text)
    (stated / "whole-own/1/settings.json").write_bytes(to_json({"schema": SCHEMA, "file": "own.py", **TENSORS}))
    record = {"folders": {"whole-own": {"kind": "python", "step": "own"}}, "models": ["whole-own"], "load_models": []}
    configs = ModelConfigs("whole-own", describe_folder(stated), record)
    stage = PackageComposition("cpu", {}, {"own": own}, python, settings().cache)
    inputs = CompositionInputs(configs, {})
    assert own.environment_sha256 in str(stage.fingerprint(inputs))
    out.mkdir()
    return stage.run(inputs, out)


@pytest.mark.triton
def test_a_step_runs_in_its_environment(
    step: UserStep, toolchain: Toolchain, server_environment: Path, tmp_path: Path
) -> None:
    repository = package(step, tmp_path / "out")
    assert only_python(repository.record) == PYTHON
    served = files.materialise(repository.files, tmp_path / "served")
    with (
        triton_server.serve(served, toolchain=toolchain, environment=server_environment, load=["whole-own"]) as server,
        triton_client.connect(server.grpc_address) as client,
    ):
        (answer,) = client.infer("whole-own", {"TEXT": np.array([[b"a"]], dtype=object)})["WHERE"][0]
        word, prefix, minor, text = answer.decode().split()
        assert (word, int(minor), text) == ("packed", PYTHON[1], "a")
        unpacked = Path(prefix)
        assert unpacked.is_dir()
    assert not unpacked.exists()  # the server is killed, and would leave it


def test_the_reference_runs_in_it_too(step: UserStep, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    made = Own({"own": step}, settings().cache).run(None, tmp_path / "out")
    assert set(made.files) == {"own/own.py", f"own/{archive_environment.FILE_NAME}"}
    rows = [{"TEXT": np.array([text], dtype=object)} for text in (b"a", b"b")]
    options = {"file": "own.py", **TENSORS}
    found = user_step.run(tmp_path / "out/own", options, rows, tmp_path)
    for row, answer in zip("ab", found, strict=True):
        word, prefix, minor, text = answer["WHERE"][0].decode().split()
        assert (word, int(minor), text) == ("packed", PYTHON[1], row)
        assert prefix.startswith(str(tmp_path))


GOOD = ("bin/activate", "lib/python3.12/site-packages/numpy/__init__.py")


def names_only(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(f"./{name}"))
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (GOOD[1:], "holds no bin/activate"),
        (GOOD[:1], r"holds 0 folders lib/python3\.N"),
        ((*GOOD, "lib/python3.11/site.py"), r"holds 2 folders lib/python3\.N"),
        (("bin/activate", "lib/python3.12/site.py"), "holds no numpy"),
    ],
)
def test_environments_that_triton_could_not_use_are_refused(
    tmp_path: Path, names: tuple[str, ...], expected: str
) -> None:
    assert archive_environment.python_of(names_only(tmp_path / "good.tar.gz", *GOOD)) == (3, 12)
    with pytest.raises(UserError, match=expected):
        archive_environment.python_of(names_only(tmp_path / "bad.tar.gz", *names))


def test_an_environment_for_another_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CODE)
    archive = names_only(tmp_path / "some.tar.gz", *GOOD)
    own = UserStep(tmp_path / "own.py", describe_file(tmp_path / "own.py").sha256, (), archive)
    own = replace(own, environment_sha256=digest_environment(archive))
    with pytest.raises(UserError, match=r"holds Python 3\.12; the Triton of target 'cpu' runs steps with 3\.10"):
        package(own, tmp_path / "out", (3, 10))
    with pytest.raises(UserError, match="was changed while it was built"):
        package(replace(own, environment_sha256="0" * 64), tmp_path / "changed")
    with pytest.raises(UserError, match="No such file"):
        digest_environment(tmp_path / "none.tar.gz")
    archive.write_bytes(archive.read_bytes()[:50])
    with pytest.raises(ArchiveError, match="damaged"):
        archive_environment.python_of(archive)
