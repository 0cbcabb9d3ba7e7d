"""Archives from users: what is wrong with their files is refused with the rule's id, before anything is unpacked."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile

import pytest

from builder import cli, contracting
from builder.core.digest import describe_folder
from builder.errors import ArchiveError, UserError
from builder.tools import archive as archives
from builder.verify.contract import probe

CONFIG = probe.config("m")
CODE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
GOOD = {"m/config.pbtxt": CONFIG, "m/1/model.py": CODE}
FLAT = {"config.pbtxt": CONFIG, "1/model.py": CODE}
ENSEMBLE = """
name: "e" platform: "ensemble" max_batch_size: 8
input { name: "X" data_type: TYPE_FP32 dims: [2] } output { name: "Y" data_type: TYPE_FP32 dims: [2] }
ensemble_scheduling { step { model_name: "elsewhere" model_version: -1
  input_map { key: "X" value: "X" } output_map { key: "Y" value: "Y" } } }
"""


def packed(path, files, *members):
    """A tar of these files, and of members that no packer of ours would write."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
        for info in members:
            tar.addfile(info)
    return path


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def rules(contract, path, monkeypatch):
    """The rules that refuse it; a server, or a folder to unpack into, would be an error here."""

    def unexpected(*_, **__):
        raise AssertionError("not refused")

    monkeypatch.setattr(contracting, "workspace", unexpected)
    monkeypatch.setattr(tempfile, "mkdtemp", unexpected)
    result = contracting.prove(contract, [path])
    assert result.exit_code == 1
    return {check.name.removeprefix("lint ") for check in result.proven[0].checks if not check.passed}


BAD = {
    "wrong root": ("sagemaker", FLAT, "A2"),
    "two models": ("sagemaker", GOOD | {"n/config.pbtxt": probe.config("n"), "n/1/model.py": CODE}, "A3"),
    "two models in one servable": (
        "sagemaker-mme",
        GOOD | {"n/config.pbtxt": probe.config("n"), "n/1/model.py": CODE},
        "A6",
    ),
    "no version 1": ("sagemaker-mme", {"m/config.pbtxt": CONFIG, "m/2/model.py": CODE}, "A5"),
    "no version": ("sagemaker", {"m/config.pbtxt": CONFIG}, "A4"),
    "missing composing model": ("sagemaker", {"e/config.pbtxt": ENSEMBLE, "e/1/build.json": "{}"}, "E11"),
    "missing composing model, flat": ("sagemaker-mme", {"config.pbtxt": ENSEMBLE, "1/build.json": "{}"}, "A8"),
    "root config beside models": ("sagemaker-mme", {"config.pbtxt": ENSEMBLE, "1/build.json": "{}"} | GOOD, "A10"),
    "hidden folder": ("sagemaker", GOOD | {".ipynb_checkpoints/x": ""}, "A3"),
}


@pytest.mark.parametrize(("contract", "files", "rule"), BAD.values(), ids=BAD)
def test_a_bad_layout_is_refused_with_its_rule(contract, files, rule, tmp_path, monkeypatch):
    assert rule in rules(contract, packed(tmp_path / "a.tar.gz", files), monkeypatch)


@pytest.mark.parametrize(
    "info",
    [
        member("m/link", tarfile.SYMTYPE, "../../etc/passwd"),
        member("m/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("m/link", tarfile.LNKTYPE, "../x"),
        member("../x"),
        member("/etc/x"),
        member("m/null", tarfile.CHRTYPE),
        member("m/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.name} {info.linkname}".strip(),
)
@pytest.mark.parametrize("contract", contracting.CONTRACTS)
def test_members_that_nobody_should_unpack_are_refused(contract, info, tmp_path, monkeypatch):
    assert "A11" in rules(contract, packed(tmp_path / "a.tar.gz", GOOD, info), monkeypatch)


def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    path = tmp_path / "a.tar.gz"
    info = member("m/1/weights.bin")
    info.size = 60 << 30
    path.write_bytes(gzip.compress(info.tobuf() + bytes(1 << 20)))  # what it states does not even follow
    assert rules("sagemaker", path, monkeypatch) == {"A11"}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip"])
def test_what_is_no_archive_is_the_users_error(content, tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"a\.tar\.gz"):
        contracting.prove("sagemaker", [path])


@pytest.mark.parametrize("json_wanted", [True, False])
def test_the_command_says_the_rule(json_wanted, tmp_path, capsys):
    path = packed(tmp_path / "a.tar.gz", FLAT)
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", "--contract", "sagemaker", str(path), *(["--json"] if json_wanted else [])])
    out = capsys.readouterr().out
    assert end.value.code == 1
    if json_wanted:
        found = json.loads(out)
        assert (found["contract"], found["passed"]) == ("sagemaker", False)
        assert found["proven"][0]["checks"][0].keys() == {"name", "expected", "seen", "passed"}
    assert "lint A2" in out


@pytest.mark.parametrize("more", [["--env", "A=1"], ["b.tar.gz"]])
def test_what_belongs_to_contracts_is_refused_without_one(more, tmp_path):
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", str(tmp_path / "a.tar.gz"), *more])
    assert end.value.code == 2


@pytest.mark.triton
def test_a_good_archive_of_a_user_is_served_but_not_compared(tmp_path):
    path = probe.pack(tmp_path / "good.tar.gz", folder="probe/")
    result = contracting.prove("sagemaker", [path])
    assert [check for check in result.proven[0].checks if not check.passed] == []
    assert result.exit_code == 4


def test_a_folder_is_nothing_for_a_multi_model_endpoint(tmp_path):
    with pytest.raises(UserError, match="is a folder; a multi-model endpoint takes archives alone") as caught:
        contracting.prove("sagemaker-mme", [tmp_path])
    assert "build the format sagemaker-mme" in caught.value.mend


@pytest.mark.triton
def test_the_folder_of_an_s3_prefix_is_served_where_it_lies(tmp_path):
    archives.unpack(probe.pack(tmp_path / "good.tar.gz", folder="probe/"), tmp_path / "good")
    before = describe_folder(tmp_path / "good")
    result = contracting.prove("sagemaker", [tmp_path / "good"])
    assert [check for check in result.proven[0].checks if not check.passed] == []
    assert result.exit_code == 4  # nothing lies beside it
    assert describe_folder(tmp_path / "good") == before
    (tmp_path / "good/other/1").mkdir(parents=True)
    (tmp_path / "good/other/1/model.py").write_text(CODE)
    refused = contracting.prove("sagemaker", [tmp_path / "good"])
    assert refused.exit_code == 1
    assert "lint A3" in {check.name for check in refused.proven[0].checks}
