"""Bad archives from users: every command that is given one refuses it with the rule's id, and writes nothing."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from builder import cli
from builder.core.digest import digest_tree
from builder.serving import Ports, running
from builder.tools import archive_names, toolchain
from builder.verify.contract import probe
from tests.handoff.shipping import BASE, describe, ship
from tests.test_contracting import CODE, CONFIG, ENSEMBLE, FLAT, GOOD, member, packed

SINGLE, MULTI = "sagemaker", "sagemaker-mme"
TWO = GOOD | {"n/config.pbtxt": probe.config("n"), "n/1/model.py": CODE}
ALONE = {"config.pbtxt": ENSEMBLE, "1/build.json": "{}"}
OUTSIDE = "ESCAPED"  # stands for a path outside, which each test has its own of


def sized(name, size):
    info = member(name)
    info.size = size
    return info


def ending_here(path, info):
    """A tar whose last header states more than follows: who believes headers alone must refuse it."""
    path.write_bytes(gzip.compress(info.tobuf() + bytes(1 << 16)))


def swelling(path):
    """A packed environment of a model, which a server would unpack: 80 KB that become 80 MB."""
    content = gzip.compress(bytes(80 << 20), compresslevel=6)
    with tarfile.open(path, "w:gz") as tar:
        for name, data in {**{name: text.encode() for name, text in GOOD.items()}, "m/env.tar.gz": content}.items():
            tar.addfile(sized(name, len(data)), io.BytesIO(data))


BAD = {
    "wrong root": (SINGLE, FLAT, "A2"),
    "two models": (SINGLE, TWO, "A3"),
    "two models, multi-model": (MULTI, TWO, "A6"),
    "no version": (SINGLE, {"m/config.pbtxt": CONFIG}, "A4"),
    "no version 1": (MULTI, {"m/config.pbtxt": CONFIG, "m/2/model.py": CODE}, "A5"),
    "missing composing model": (SINGLE, {"e/config.pbtxt": ENSEMBLE, "e/1/build.json": "{}"}, "E11"),
    "missing composing model, flat": (MULTI, ALONE, "A8"),
    "root config beside models": (MULTI, ALONE | GOOD, "A10"),
    "hidden folder": (SINGLE, GOOD | {".ipynb_checkpoints/x": ""}, "A3"),
    "hidden folder, multi-model": (MULTI, GOOD | {".ipynb_checkpoints/x": ""}, "A6"),
    "link out": (SINGLE, member("m/link", tarfile.SYMTYPE, f"../../{OUTSIDE}"), "A11"),
    "absolute link": (SINGLE, member("m/link", tarfile.SYMTYPE, "/etc/passwd"), "A11"),
    "hard link out": (MULTI, member("m/link", tarfile.LNKTYPE, "../x"), "A11"),
    "above": (MULTI, member(f"../{OUTSIDE}"), "A11"),
    "above, further in": (SINGLE, member(f"m/../../{OUTSIDE}"), "A11"),
    "absolute": (SINGLE, member(f"/{OUTSIDE}"), "A11"),
    "device": (MULTI, member("m/null", tarfile.CHRTYPE), "A11"),
    "pipe": (SINGLE, member("m/pipe", tarfile.FIFOTYPE), "A11"),
    "twice": (SINGLE, member("m/1/model.py"), "A11"),
    "file below a file": (MULTI, member("m/1/model.py/x"), "A11"),
    "bomb of many files": (SINGLE, {f"m/1/{number}": "" for number in range(101)} | GOOD, "A11"),
    "bomb of one size": (SINGLE, lambda path: ending_here(path, sized("m/1/weights", 60 << 30)), "A11"),
    "bomb of a ratio": (MULTI, lambda path: ending_here(path, sized("m/1/weights", 2 << 30)), "A11"),
    "bomb in a member": (SINGLE, swelling, "A11"),
    "no gzip": (SINGLE, lambda path: path.write_bytes(b"PK\x03\x04 a zip"), "A1"),
}


@pytest.fixture(autouse=True)
def _no_server(monkeypatch, tmp_path):
    """Fewer members are many here; whoever goes on to a server would be wrong; unpacking would show below ``cache``."""

    def unexpected(*_, **__):
        raise AssertionError("not refused")

    limit = archive_names.LIMITS.members
    object.__setattr__(archive_names.LIMITS, "members", 100)
    monkeypatch.setattr(toolchain, "install", unexpected)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("TRITONSMITH_CACHE", str(tmp_path / "cache"))
    yield
    object.__setattr__(archive_names.LIMITS, "members", limit)


def make(folder, form, content):
    """An archive and a manifest that vouches for it."""
    path = folder / "given" / f"m-cpu-{digest_tree({})[:16]}.tar.gz"
    path.parent.mkdir()
    if callable(content):
        content(path)
    elif isinstance(content, dict):
        packed(path, content)
    else:
        info = content
        info.name = info.name.replace(f"/{OUTSIDE}", str(folder / OUTSIDE)) if info.name[0] == "/" else info.name
        packed(path, GOOD, info)
    return describe(path, {}, "m", kind=form, section=BASE)


def commands(path, form, out):
    return {
        "verify": ["verify", path],
        "contract": ["verify", "--contract", form, path],
        "lint": ["lint", path],
        "lint --sarif": ["lint", path, "--sarif"],
        "inspect": ["inspect", path],
        "serve": ["serve", path],
        "sweep": ["sweep", path, "--out", out],
        "handoff": ["handoff", path, "--to", "sagemaker", "--out", out],
    }


def run(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return end.value.code, shown.out + shown.err


def everything(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("form", "content", "rule"), BAD.values(), ids=BAD)
def test_every_command_refuses_it_with_its_rule_and_writes_nothing(form, content, rule, tmp_path, capsys):
    path = make(tmp_path, form, content)
    before = everything(tmp_path)
    for command, arguments in commands(path, form, tmp_path / "out").items():
        code, shown = run(arguments, capsys)
        assert code in {1, 2}, (command, shown)
        assert rule in shown.replace('"', " ").replace(":", " ").split(), (command, shown)
    assert everything(tmp_path) == before


def test_a_folder_that_is_handed_off_is_asked_the_same(tmp_path, capsys):
    path = ship(tmp_path, kind="s3-prefix", section=BASE)
    asked = ["handoff", path, "--to", "sagemaker", "--out", tmp_path / "out"]
    (path / "tiny/1/link").symlink_to("/etc/passwd")
    code, shown = run(asked, capsys)
    assert (code, "A32 hosting-error tiny/1/link" in shown) == (2, True), shown
    (path / "tiny/1/link").unlink()
    assert run(asked, capsys)[0] == 0


@pytest.mark.parametrize("name", [f"../{OUTSIDE}", f"m/../../{OUTSIDE}", f"/{OUTSIDE}"])
def test_who_trusts_it_writes_elsewhere(name, tmp_path):
    """The archives of the test above are as bad as they look."""
    path = make(tmp_path, SINGLE, member(name))
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "unpacked", filter="fully_trusted")
    assert (tmp_path / OUTSIDE).is_file()


@pytest.mark.parametrize(("form", "files"), [(SINGLE, GOOD), (MULTI, GOOD), (MULTI, FLAT), ("triton", TWO)])
def test_a_good_one_is_admitted(form, files, tmp_path, capsys):
    path = make(tmp_path, form, files)
    wanted = commands(path, form, tmp_path / "out")
    for command in ("lint", "inspect", *(["handoff"] if form != "triton" else [])):
        code, shown = run(wanted[command], capsys)
        assert code == 0, (command, shown)
    with pytest.raises(AssertionError, match="not refused"), running(path, triton=None, ports=Ports()):
        pass  # on its way to a server
