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
    "a pipeline of its own": "import transformers as t\ndef run(TEXT):\n    t.pipeline('ner', model=FOLDER)",
    "a cache beside it": "os.environ['HF_HUB_OFFLINE'] = '1'\ndef run(TEXT):\n    AutoModel.from_pretrained('bert')",
    "data from files": "import datasets\ndef run(TEXT):\n    datasets.load_dataset('json', data_files='a.json')",
    "a loader of its own": "def load_dataset(name): ...\nDATA = load_dataset('x')\ndef run(TEXT): ...",
    "a method of its own": "class Step(Base):\n    def __init__(self, *a):\n        self.cached_path('x')",
    "a class of its own": "class Table: ...\nT = Table.from_pretrained('x')\ndef run(TEXT): ...",
    "a repository beside it": "def run(TEXT):\n    torch.hub.load(FOLDER, 'net', source='local')",
    "a way out": "import nltk\ndef run(TEXT):\n    try: nltk.data.find('x')\n    except OSError: nltk.download('x')",
    "a part of an address": "import urllib.parse\nX = urllib.parse.quote('a b')\ndef run(TEXT): ...",
    "a session": "import requests\nS = requests.Session()\ndef run(TEXT): ...",
    "a program": "import requests\ndef run(TEXT): ...\nif __name__ == '__main__':\n    requests.get('http://x')",
    "another program": "import subprocess\ndef run(TEXT):\n    subprocess.run(['sort', 'pipes', 'install'])",
    "pip without an index": "import os\nos.system('pip install --no-index x')\ndef run(TEXT): ...",
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
    assert any(word in expected for word in ("download", "fetches", "install")) == (
        "under requirements" in caught.value.mend
    )


@pytest.mark.parametrize("name", ["model.py", "own.txt"])
def test_names_that_it_may_not_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=r"must be a \.py file with a name other than model\.py"):
        check(tmp_path, "def run(TEXT): ...", name)
