"""Archives: lint says of them what it says of the folder, whatever their members are."""

from __future__ import annotations

import io
import random
import tarfile

import pytest

from builder.errors import ArchiveError
from builder.lint import lint
from builder.lint.archive_tree import ArchiveTree
from builder.lint.tree import FILE, FOLDER, LINK, OTHER
from builder.tools import archive_look
from builder.tools.archive import Limits
from tests.lint import core_cases
from tests.lint.hosting_cases import ANY, MULTI, external, make, onnx, packed, plan, python
from tests.lint.repositories import MODEL_PY

FILES = onnx() | python(name="p") | {"m/1/label.txt": "a\n"}


def tar_of(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for info in members:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


@pytest.mark.parametrize("files", [FILES, external(8), onnx(content=b"no graph"), plan(head=b"vtrt"), python()])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_has_the_findings_of_its_folder(files, mode, tmp_path):
    archive = packed(files, mode=mode)(tmp_path)
    of_folder = lint(make(files, tmp_path), ANY)
    of_archive = lint(archive, ANY)
    assert of_archive.models == of_folder.models
    assert of_archive.findings == of_folder.findings


def test_so_it_is_for_every_rule_of_the_core(tmp_path):
    compared = 0
    for rule_id, case in core_cases.CASES.items():
        if any(name.endswith("/") or str(content).startswith("->") for name, content in case.bad.items()):
            continue  # empty folders and links: not every archive has them
        folder = tmp_path / rule_id
        folder.mkdir()
        archive = packed(case.bad, name="repository.tar.gz")(folder)
        assert lint(archive, case.options).findings == lint(make(case.bad, folder), case.options).findings
        compared += 1
    assert compared > 30


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (member("/etc/passwd"), "absolute"),
        (member("../x"), "leaves the archive"),
        (member("m/../../x"), "leaves the archive"),
        (member("m//x"), "plain path"),
        (member("m/link", tarfile.SYMTYPE, "/etc/passwd"), "link"),
        (member("m/link", tarfile.SYMTYPE, "../../x"), "link"),
        (member("m/link", tarfile.LNKTYPE, "../x"), "link"),
        (member("m/null", tarfile.CHRTYPE), "device"),
        (member("m/pipe", tarfile.FIFOTYPE), "device"),
        (member("m/tool", mode=0o4755), "set-user-id"),
    ],
)
def test_bad_members_are_found_and_written_nowhere(info, words, tmp_path, monkeypatch):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(tar_of(member("m/config.pbtxt"), info))
    before = sorted(tmp_path.parent.rglob("*"))
    found = [one for one in lint(archive, ANY).findings if one.rule == "A11"]
    assert [one.path for one in found] == [info.name]
    assert words in found[0].message
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_name_that_is_there_twice(tmp_path):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(tar_of(member("m/x"), member("m/x")))
    assert ArchiveTree(archive).bad == (("m/x", "is there twice"),)


def test_kinds_of_entries(tmp_path):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(
        tar_of(
            member("./"), member("./m/1/model.py"), member("./m/link", tarfile.SYMTYPE, "1/model.py"),
            member("./m/hard", tarfile.LNKTYPE, "./m/1/model.py"), member("./m/lost", tarfile.SYMTYPE, "2"),
            member("./m/null", tarfile.CHRTYPE), member("./e/1/", tarfile.DIRTYPE), content=b"text",
        )
    )  # fmt: skip
    tree = ArchiveTree(archive)
    kinds = {path: entry.kind for path, entry in tree.entries.items()}
    assert kinds == {"m": FOLDER, "m/1": FOLDER, "m/1/model.py": FILE, "m/link": FILE, "m/hard": FILE, "m/lost": LINK,
                     "m/null": OTHER, "e": FOLDER, "e/1": FOLDER}  # fmt: skip
    assert tree.read_text("m/link") == tree.read_text("m/hard") == "text"
    assert [name for name, _ in tree.bad] == ["./m/null"]


def test_limits_hold(tmp_path):
    archive = packed({f"m/{number}": b"x" * 1000 for number in range(20)})(tmp_path)
    for limits in (Limits(members=5), Limits(total_bytes=10_000)):
        with pytest.raises(ArchiveError, match="holds more than"):
            archive_look.look(archive, lambda *_: 0, limits=limits)
    assert len(archive_look.look(archive, lambda *_: 0).members) == 20


def test_of_large_files_only_the_begin_is_kept(tmp_path):
    archive = packed({"m/1/weights.bin": bytes(10 << 20), "m/1/model.py": "x = 1\n"})(tmp_path)
    looked = ArchiveTree(archive).look
    assert sum(len(one.head) for one in looked.members) < 1000


def test_what_rules_ask_for_is_kept_whole(tmp_path, monkeypatch):
    code = MODEL_PY + "#" * 2000
    files = python(code=code) | {"m/1/step": code, "m/warmup/text": code, "m/1/deep/er/x.py": code}
    tree = ArchiveTree(packed(files)(tmp_path))
    for name in ("m/1/model.py", "m/1/step", "m/warmup/text", "m/config.pbtxt"):
        assert tree.read_text(name) == files[name]
    assert len(tree.head("m/1/deep/er/x.py", 9999)) == 64
    monkeypatch.setattr(archive_look, "_KEPT_BYTES", 1000)
    with pytest.raises(ArchiveError, match="more than 1000 bytes of configs"):
        ArchiveTree(tmp_path / "a.tar.gz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x1f\x8b\x08broken", b"x" * 2000])
def test_what_is_no_archive_is_refused(content, tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"a\.tar\.gz"):
        lint(path, ANY)


def test_damaged_archives_never_crash(tmp_path):
    content = packed(FILES)(tmp_path).read_bytes()
    source = random.Random(0)
    path = tmp_path / "broken.tar.gz"
    for number in range(150):
        broken = bytearray(content[: source.randrange(1, len(content))] if number % 3 == 0 else content)
        for _ in range(number % 4):
            broken[source.randrange(len(broken))] = source.randrange(256)
        path.write_bytes(broken)
        try:
            lint(path, MULTI)
        except ArchiveError as error:
            assert str(path) in error.message  # noqa: PT017 - most are refused, some are whole
