"""What is said of a user's file without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.errors import RecipeError
from builder.package.user_code import check_user_file
from builder.recipe.steps import PythonStep

if TYPE_CHECKING:
    from pathlib import Path

TENSOR = {"dtype": "BYTES", "dims": [1]}
GOOD = {
    "function": "def run(TEXT): ...",
    "keyword arguments": "def run(*, TEXT, mood=1): ...",
    "any arguments": "def run(**tensors): ...",
    "class": "class Step:\n    def __init__(self, folder, parameters): ...\n    def __call__(self, TEXT): ...",
    "class from elsewhere": "class Step(Base): ...",
    "imported": "from own import run",
    "assigned": "run = lambda TEXT: {}",
    "a model beside it": "def run(TEXT):\n    AutoModel.from_pretrained('./model')",
    "a model of any name": "def run(TEXT):\n    AutoModel.from_pretrained(FOLDER / 'model')",
    "a model that is there": "def run(TEXT):\n    AutoModel.from_pretrained('bert', local_files_only=True)",
    "a service that is asked": "import requests\ndef run(TEXT):\n    requests.post('http://prices')",
}
BAD = {
    "def run(TEXT:\n": "1: '(' was never closed",
    "x = 1": "1: has neither a function run() nor a class Step",
    "\ndef run(TEXTS): ...": "2: run() takes TEXTS; the recipe's takes are TEXT",
    "def run(TEXT, MORE): ...": "1: run() takes TEXT, MORE; the recipe's takes are TEXT",
    "class Step: ...": "1: class Step has no method __call__",
    "class Step:\n    def __call__(self): ...": "2: __call__() takes nothing; the recipe's takes are TEXT",
    "def run(TEXT):\n    M.from_pretrained('bert-base')": "2: from_pretrained('bert-base') would download a model",
    "def run(TEXT): ...\nhf_hub_download('a', 'b')": "2: hf_hub_download() would download",
    "def run(TEXT):\n    hub.snapshot_download('a')": "2: hub.snapshot_download() would download",
    "def run(TEXT):\n    torch.hub.load('a')": "2: torch.hub.load() would download",
    "import requests\nX = requests.get('http://x')\ndef run(TEXT): ...": "2: requests.get() fetches something while",
    "class Step:\n    def __init__(self, *a):\n        urllib.request.urlopen('x')\n    def __call__(self, TEXT): 1": (
        "3: urllib.request.urlopen() fetches something while the step is loaded"
    ),
    "x = '\0'": "1: source code",
}


def check(path: Path, text: str, name: str = "own.py") -> None:
    (path / name).write_text(text)
    given = {"python": str(path / name), "takes": {"TEXT": TENSOR}, "gives": {"X": TENSOR}}
    check_user_file(path / name, PythonStep.model_validate(given, strict=False))


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_may_be(tmp_path: Path, text: str) -> None:
    check(tmp_path, text)


@pytest.mark.parametrize(("text", "expected"), BAD.items())
def test_what_may_not_be(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check(tmp_path, text)
    assert caught.value.message.startswith(f"{tmp_path}/own.py:{expected}")
    assert ("download" in expected or "fetches" in expected) == ("under requirements" in caught.value.mend)


@pytest.mark.parametrize("name", ["model.py", "own.txt"])
def test_names_that_it_may_not_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=r"must be a \.py file with a name other than model\.py"):
        check(tmp_path, "def run(TEXT): ...", name)
