import os
import time

from builder.core.digest import describe_file, digest_file
from builder.core.stats import TICK_SECONDS, Stats


class Reader:
    def __init__(self):
        self.read = 0

    def __call__(self, path):
        self.read += 1
        return digest_file(path)


def settle():
    time.sleep(TICK_SECONDS * 1.5)


def test_a_file_is_read_once_also_by_the_next_process(tmp_path):
    path, read = tmp_path / "weights", Reader()
    path.write_text("x")
    settle()
    for stats in (Stats(tmp_path / "stats"), Stats(tmp_path / "stats")):
        assert {stats.digest(path, read) for _ in range(3)} == {digest_file(path)}
    assert read.read == 1


def test_every_change_is_seen_also_one_that_hides(tmp_path):
    path, read = tmp_path / "weights", Reader()
    path.write_text("one")
    settle()
    stats = Stats(tmp_path / "stats")
    before = stats.digest(path, read)
    times = path.stat()
    path.write_text("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert stats.digest(path, read) == digest_file(path) != before
    settle()
    other = tmp_path / "other"
    other.write_text("new")
    other.rename(path)
    assert stats.digest(path, read) == digest_file(path)


def test_nothing_is_kept_of_a_file_that_was_written_a_moment_ago(tmp_path):
    path, read = tmp_path / "weights", Reader()
    stats = Stats(tmp_path / "stats")
    path.write_text("one")
    stats.digest(path, read)
    path.write_text("two")
    assert stats.digest(path, read) == digest_file(path)
    assert read.read == 2


def test_what_we_wrote_ourselves_is_known_at_once(tmp_path):
    path, stats = tmp_path / "archive", Stats(tmp_path / "stats")
    path.write_text("x")
    assert stats.known(path) is None
    stats.note([describe_file(path)])
    assert Stats(tmp_path / "stats").known(path) == digest_file(path)
    assert stats.known(tmp_path / "nothing") is None


def test_what_is_known_is_not_written_down_again(tmp_path):
    path, other, stats = tmp_path / "archive", tmp_path / "other", Stats(tmp_path / "stats")
    path.write_text("x")
    other.write_text("y")
    stats.note([describe_file(path)])
    (kept,) = (tmp_path / "stats").iterdir()
    before = kept.stat().st_ino  # each writing makes a new file
    stats.note([describe_file(path)])
    assert kept.stat().st_ino == before
    stats.note([describe_file(path), describe_file(other)])
    assert kept.stat().st_ino != before
    assert [Stats(tmp_path / "stats").known(one) for one in (path, other)] == [digest_file(path), digest_file(other)]


def test_damaged_notes_are_forgotten(tmp_path):
    path, stats = tmp_path / "weights", Stats(tmp_path / "stats")
    path.write_text("x")
    stats.note([describe_file(path)])
    (kept,) = (tmp_path / "stats").iterdir()
    content = kept.read_text()
    for damaged in ("", "{", content.replace(digest_file(path), "0" * 64), "[]"):
        kept.write_text(damaged)
        assert Stats(tmp_path / "stats").known(path) is None
