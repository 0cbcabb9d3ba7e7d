import errno
import json
import threading
from dataclasses import replace

import pytest

from builder.artifacts import Repository
from builder.core.codec import files_in
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import BlockedError, DamagedError, MachineError, ModelError
from tests.core.stages import PIECES, Listener, Write, outside


@pytest.fixture
def store(tmp_path):
    return Store.at(tmp_path / "store")


def records(store):
    return [json.loads(path.read_text()) for path in sorted(store.root.glob("records/*/*.json"))]


def left(store):
    return list((store.root / "builds").rglob("*"))


def test_output_is_published_as_blobs_and_a_record(store):
    listener = Listener()
    output = Executor(store, "recipe/path/model", listener).run(Write("hello"), "good")
    file = output.files["deep/write.0"]
    assert file.path == store.root / "blobs" / file.sha256[:2] / file.sha256[2:]
    assert file.path.stat().st_mode & 0o777 == 0o444
    assert listener.events == [("started", "recipe/path/model/write"), ("ran", "recipe/path/model/write")]
    (record,) = records(store)
    assert record["fingerprint"] == {"stage": "write", "version": 1, "text": "hello", "inputs": "good"}
    assert record["output"]["files"]["deep/write.0"] == {"sha256": file.sha256, "size": file.size}
    assert str(store.root) not in json.dumps(record), "a record holds no path"
    assert left(store) == []


def test_the_second_time_it_is_found_and_equal(store, tmp_path):
    listener, stage = Listener(), Write("hello", diary=tmp_path / "diary")
    first = Executor(store, "r", listener).run(stage, "good")
    second = Executor(Store.at(store.root), "r", listener).run(stage, "good")
    assert first == second
    assert first.record == {"pieces": PIECES, "tuple": [1, 2]}, "as it was read back"
    assert len(list((tmp_path / "diary").iterdir())) == 1
    assert listener.events[-1] == ("found", "r/write")


def test_key_follows_options_inputs_and_version(store, monkeypatch):
    run = Executor(store, "r").run
    first = run(Write("hello"), "good")
    run(Write("other"), "good")
    run(Write("hello"), "better")
    run(Write("last"), (first,))
    monkeypatch.setattr(Write, "version", 2)
    run(Write("hello"), "good")
    assert len(records(store)) == 5
    assert len({record["key"] for record in records(store)}) == 5


def test_what_the_machine_lacks_is_blocked_and_not_failed(store, tmp_path):
    listener = Listener()
    lacking = Write("hello", fail=BlockedError("needs a GPU"))
    with pytest.raises(BlockedError, match="needs a GPU") as caught:
        Executor(store, "r", listener).run(lacking, "good")
    assert listener.events == [("started", "r/write"), ("blocked", "r/write")]
    assert caught.value.exit_code == 4
    # Another machine that uses the same store has what is needed: the key is the same, and both find what it made.
    made = Executor(store, "r").run(Write("hello"), "good")
    assert Executor(store, "r", listener).run(lacking, "good") == made
    assert listener.events[-1] == ("found", "r/write")


@pytest.mark.parametrize(
    ("stage", "inputs"),
    [(Write("x"), "bad"), (Write("x", refuse=True), "good"), (Write("x", fail=KeyboardInterrupt()), "good")],
    ids=["requires", "ensures", "interrupted"],
)
def test_nothing_is_published_by_a_stage_that_failed(store, stage, inputs):
    listener = Listener()
    with pytest.raises((ModelError, KeyboardInterrupt)):
        Executor(store, "r", listener).run(stage, inputs)
    assert records(store) == []
    assert left(store) == []
    assert list(store.blobs.all()) == []
    assert listener.events[-1] == ("failed", "r/write")


def test_full_disk_is_a_message_not_a_traceback(store):
    with pytest.raises(MachineError, match="write: no space left on the disk") as caught:
        Executor(store, "r").run(Write("x", fail=OSError(errno.ENOSPC, "No space left on device")), "good")
    assert "TRITONSMITH_CACHE" in caught.value.mend


def test_files_of_the_input_are_referred_to_and_files_outside_are_taken_in_once(store, tmp_path):
    file = outside(tmp_path / "theirs")
    theirs = Repository("theirs", {"weights": file}, {})
    run = Executor(store, "r").run
    first = run(Write("a"), (theirs,))
    second = run(Write("b", name="second"), (first,))
    taken = store.blobs.path(file.sha256)
    assert first.files["weights"].path == second.files["weights"].path == taken
    assert taken.stat().st_ino != file.path.stat().st_ino, "their file stays theirs"
    assert sum(1 for _ in store.blobs.all()) == 1 + 2 * PIECES


def test_their_file_that_changes_while_it_is_read_is_never_taken_for_the_other(store, tmp_path):
    file = outside(tmp_path / "theirs")
    file.path.write_text("changed")
    with pytest.raises(DamagedError, match="has changed while the build ran"):
        Executor(store, "r").run(Write("a"), (Repository("theirs", {"weights": file}, {}),))
    assert records(store) == []


def test_inputs_that_change_while_the_stage_runs_publish_nothing(store):
    class Shifting(Write):
        def fingerprint(self, inputs):
            seen.append(1)
            return {"seen": len(seen)}

    seen = []
    with pytest.raises(MachineError, match="what it reads has changed while it ran"):
        Executor(store, "r").run(Shifting("x"), "good")
    assert records(store) == []


def test_declared_versions_are_asserted_before_it_runs(store, tmp_path):
    diary = tmp_path / "diary"
    with pytest.raises(MachineError, match=r"pytest \S+: this was planned with pytest 0.0.1") as caught:
        Executor(store, "r").run(Write("x", facts={"versions": {"pytest": "0.0.1"}}, diary=diary), "good")
    assert "pytest==0.0.1" in caught.value.mend
    assert not diary.exists()
    with pytest.raises(MachineError, match="no-such-thing is not installed"):
        Executor(store, "r").run(Write("x", facts={"versions": {"no-such-thing": "1"}}), "good")
    Executor(store, "r").run(Write("x", facts={"versions": {"pytest": pytest.__version__}}), "good")


def test_an_output_that_is_not_final_is_used_and_not_kept(store):
    class Shaky(Write):
        def is_final(self, output):
            return False

    output = Executor(store, "r").run(Shaky("x"), "good")
    assert output.files["deep/write.0"].path.read_text().startswith("write 0 x")
    assert records(store) == []


def test_a_fresh_run_repeats_what_is_kept(store, tmp_path):
    stage = Write("x", diary=tmp_path / "diary")
    kept = Executor(store, "r").run(stage, "good")
    assert Executor(store, "r", fresh=True).run(stage, "good") == kept
    assert len(list((tmp_path / "diary").iterdir())) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "writable"])
def test_a_damaged_blob_is_a_miss_or_is_found_when_it_is_consumed(store, tmp_path, damage, caplog):
    stage = Write("hello", diary=tmp_path / "diary")
    output = Executor(store, "r").run(stage, "good")
    path = output.files["deep/write.3"].path
    content = path.read_bytes()
    path.chmod(0o644)
    if damage == "flip":
        path.write_bytes(content[:-1] + b"?")
        path.chmod(0o444)
    elif damage == "cut":
        path.write_bytes(content[:-1])
        path.chmod(0o444)
    elif damage == "gone":
        path.unlink()
    again = Executor(Store.at(store.root), "r")
    first = again.run(stage, "good")
    if damage == "flip":  # stat cannot tell: it is found before it is read
        with pytest.raises(DamagedError):
            again.run(Write("next", name="next"), (first,))
        first = again.run(stage, "good")
    assert path.read_bytes() == content
    assert len(list((tmp_path / "diary").iterdir())) == 2
    assert [record.levelname for record in caplog.records] == ([] if damage == "gone" else ["WARNING"])
    again.run(Write("next", name="next"), (first,))


def test_a_failure_that_comes_of_damage_is_said_to_be_damage(store):
    class Parsing(Write):
        def fingerprint(self, inputs):
            if "?" in files_in(inputs)[0].path.read_text():
                raise ModelError("not JSON")
            return super().fingerprint(inputs)

    output = Executor(store, "r").run(Write("hello"), "good")
    path = output.files["deep/write.0"].path
    path.chmod(0o644)
    path.write_text("?" * path.stat().st_size)
    path.chmod(0o444)
    with pytest.raises(DamagedError):
        Executor(Store.at(store.root), "r").run(Parsing("next"), (output,))
    assert not path.exists()


def test_a_record_whose_blobs_nobody_writes_again_is_not_in_the_way(store, tmp_path):
    """A stage whose bytes differ from run to run: what it made last is kept, once what it made first is gone."""
    lost = Executor(store, "r").run(Write("old", facts={"text": "same"}), "good").files["deep/write.0"].path
    lost.unlink()
    stage = Write("new", facts={"text": "same"}, diary=tmp_path / "diary")
    first, second = (Executor(Store.at(store.root), "r").run(stage, "good") for _ in range(2))
    assert first == second
    assert len(list((tmp_path / "diary").iterdir())) == 1


@pytest.mark.parametrize("where", range(0, 100, 7))
def test_a_record_with_any_flipped_byte_is_a_warning_and_a_miss(store, tmp_path, where, caplog):
    stage = Write("hello", diary=tmp_path / "diary")
    first = Executor(store, "r").run(stage, "good")
    (path,) = store.root.glob("records/*/*.json")
    content = bytearray(path.read_bytes())
    content[len(content) * where // 100] ^= 0x04
    path.chmod(0o644)
    path.write_bytes(content)
    assert Executor(Store.at(store.root), "r").run(stage, "good") == first
    assert len(list((tmp_path / "diary").iterdir())) == 2
    assert "damaged record" in caplog.text


def test_builds_at_once_make_a_key_once_and_agree(store, tmp_path):
    stage, outputs = Write("hello", diary=tmp_path / "diary"), []

    def work():
        outputs.append(Executor(Store.at(store.root), "r").run(stage, "good"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outputs) == 8
    assert all(output == outputs[0] for output in outputs)
    assert len(list((tmp_path / "diary").iterdir())) == 1


def test_without_locks_the_loser_adopts_what_was_first(store, monkeypatch):
    import contextlib

    monkeypatch.setattr(Store, "making", lambda self, key: contextlib.nullcontext())
    first = Executor(store, "r").run(Write("hello"), "good")
    late = Executor(store, "r")
    monkeypatch.setattr(Store, "find", _blind_once(Store.find))
    assert late.run(Write("hello"), "good") == first
    assert len(records(store)) == 1


def _blind_once(find):
    """A look that comes too early: before the other build has published."""
    looks = []

    def look(self, key):
        looks.append(key)
        return None if len(looks) <= 2 else find(self, key)

    return look


def test_the_same_content_under_two_names_is_one_blob(store):
    class Twins(Write):
        def run(self, inputs, out):
            made = super().run(inputs, out)
            (out / "twin").write_bytes((out / "deep/write.0").read_bytes())
            from builder.core.digest import describe_folder

            return replace(made, files=describe_folder(out))

    output = Executor(store, "r").run(Twins("x"), "good")
    assert output.files["twin"].path == output.files["deep/write.0"].path
