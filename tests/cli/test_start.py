"""What must hold before any command runs: it starts light, and every failure has its exit code."""

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch transformers onnx onnx_ir onnxruntime onnxscript tritonclient numpy pydantic rich ruamel huggingface_hub "
    "grpc google"
)
COMMANDS = ["plan", "build", "lint", "verify", "serve", "schema", "doctor", "store", "toolchain"]


def tritonsmith(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "builder", *map(str, arguments)], capture_output=True, text=True, timeout=60, **options
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)], ids=" ".join
)
def test_help_imports_nothing_heavy(arguments):
    # typer itself takes pydantic to look at the types of a command's parameters.
    heavy = [name for name in HEAVY.split() if len(arguments) == 1 or name != "pydantic"]
    code = (
        "import sys\nfrom builder.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"heavy = [name for name in {heavy!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_check_of_heavy_imports_can_fail():
    assert "pydantic" in HEAVY.split()
    code = "import sys, builder.recipe; assert 'pydantic' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 1


def test_help_names_every_command():
    shown = tritonsmith("--help").stdout
    assert all(command in shown for command in COMMANDS)


def test_unknown_command_and_option_are_the_users_errors():
    for arguments in (["bild"], ["build", "--no-such-option", "x.yaml"], ["build"]):
        done = tritonsmith(*arguments)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr


def test_missing_recipe_is_one_message(tmp_path):
    done = tritonsmith("build", tmp_path / "nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_schema_is_json():
    assert "properties" in json.loads(tritonsmith("schema").stdout)["else"]


def test_reader_that_goes_away_is_no_bug():
    done = subprocess.run(
        f"{sys.executable} -m builder schema | head -c 1", shell=True, capture_output=True, text=True, timeout=60
    )
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr


def test_reader_that_goes_away_early_ends_it_as_it_ends_other_tools():
    code = "import os, sys\nfrom builder.cli import main\n{}main(['schema'])\n"
    ends = {}
    for name, more in (("read", ""), ("gone", "sys.stdin.read(1)\n")):
        process = subprocess.Popen(
            [sys.executable, "-c", code.format(more)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if name == "gone":
            process.stdout.close()
            process.stdin.write(b"x")
            process.stdin.close()
            said = process.stderr.read()
            process.stderr.close()
        else:
            _, said = process.communicate(timeout=60)
        ends[name] = (process.wait(60), said)
    assert ends == {"read": (0, b""), "gone": (141, b"")}


def test_our_own_bug_keeps_its_traceback_and_says_so():
    code = (
        "import builder.recipe\nfrom builder.cli import main\n"
        "def broken(): raise RuntimeError('boom')\n"
        "builder.recipe.json_schema = broken\nmain(['schema'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 70
    assert "RuntimeError: boom" in done.stderr
    assert "bug of tritonsmith" in done.stderr
