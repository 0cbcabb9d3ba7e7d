from dataclasses import replace

import pytest

from builder.artifacts import File
from builder.core.digest import describe_file
from builder.errors import ArchiveError
from builder.verify.facts import ArchiveFacts, check_files, check_metric


@pytest.fixture
def files(tmp_path):
    names = ("a.tar.gz", "samples.jsonl", "expected.safetensors")
    for name in names:
        (tmp_path / name).write_text(name)
    archive, samples, expected = (describe_file(tmp_path / name) for name in names)
    return ArchiveFacts("a", archive, samples, expected, "0" * 64, "25.09", "cosine", ("EMBEDDING",), (), 8)


def test_files_that_are_what_they_were_are_taken(files):
    check_files(files)


def test_every_file_that_differs_is_named(files):
    files.samples.path.write_text("other.jsonl##")
    files.archive.path.write_text("longer than it was")
    files.expected.path.unlink()
    with pytest.raises(ArchiveError) as caught:
        check_files(files)
    assert "a.tar.gz: has 18 bytes, the manifest says 8" in caught.value.message
    assert "samples.jsonl: has sha256 " in caught.value.message
    assert "expected.safetensors: is missing" in caught.value.message


def test_one_changed_bit_is_noticed(files):
    wrong = replace(files.archive, sha256=files.archive.sha256[:-1] + "x")
    with pytest.raises(ArchiveError, match=r"a\.tar\.gz: has sha256"):
        check_files(replace(files, archive=wrong))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "best"}, r"a\.tar\.gz: its manifest says metric 'best'; known: cosine, "),
        ({"metric": "single-label", "outputs": ("LOGITS",)}, "outputs LOGITS; .* compares PROBABILITIES too"),
        ({"outputs": ()}, "outputs none; metric cosine compares EMBEDDING too"),
        ({"metric": "logits", "outputs": ()}, "no outputs: there is nothing to compare"),
    ],
)
def test_answers_that_cannot_be_compared_are_refused(files, change, message):
    check_metric(files)
    with pytest.raises(ArchiveError, match=message):
        check_metric(replace(files, **change))


def test_a_folder_is_no_archive(files, tmp_path):
    with pytest.raises(ArchiveError, match="is missing"):
        check_files(replace(files, archive=File(tmp_path, "", 0)))
