"""Packages that fetch data at their first use: known ones, each with where that is written.

What is not here may fetch, too: a package is not run to find out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Fetching:
    """A package.

    Args:
        name: as pip has it, in lower case, with ``-``.
        what: what it fetches or needs, and when.
        mend: how it does without a network.
        settled_by: words that are in a file which has seen to it.
        source: where that is written.
    """

    name: str
    what: str
    mend: str
    settled_by: tuple[str, ...]
    source: str


_HUB: Final = ("local_files_only", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME")

KNOWN: Final = (
    Fetching(
        "nltk",
        "finds no corpora or models until nltk.download() has fetched them",
        "bring the data along and add its folder to nltk.data.path",
        ("nltk.data.path", "NLTK_DATA"),
        "nltk.org/data.html",
    ),
    Fetching(
        "tiktoken",
        "get_encoding() fetches the vocabulary at its first call",
        "bring the file along and set TIKTOKEN_CACHE_DIR to its folder before",
        ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"),
        "tiktoken/load.py: read_file_cached",
    ),
    Fetching(
        "tldextract",
        "fetches the list of public suffixes at its first use, or again when it cannot keep it",
        "write TLDExtract(suffix_list_urls=()), which takes the list that it ships",
        ("suffix_list_urls", "TLDEXTRACT_PUBLIC_SUFFIX_LIST_URLS"),
        "README of tldextract: how to disable HTTP suffix list fetching",
    ),
    Fetching(
        "spacy",
        "spacy.load() takes a pipeline that is a package of its own",
        "name that package under requirements",
        ("spacy.blank",),
        "spacy.io/usage/models",
    ),
    Fetching(
        "stanza",
        "stanza.Pipeline() fetches its models",
        "bring the models along, and give model_dir and download_method=None",
        ("download_method",),
        "stanfordnlp.github.io/stanza: getting started, pipeline",
    ),
    Fetching(
        "easyocr",
        "easyocr.Reader() fetches the weights of its languages",
        "bring them along, and give model_storage_directory and download_enabled=False",
        ("download_enabled",),
        "README of EasyOCR",
    ),
    Fetching(
        "language-tool-python",
        "fetches a LanguageTool server, which needs Java, when LanguageTool() is made",
        "ask a server that runs elsewhere: remote_server",
        ("remote_server",),
        "README of language_tool_python: local and remote servers",
    ),
    *(
        Fetching(
            name,
            "fetches a model that is asked for by a name",
            "bring its folder along and give its path, with local_files_only=True",
            _HUB,
            "huggingface.co/docs/huggingface_hub: manage your cache; HF_HUB_OFFLINE",
        )
        for name in ("sentence-transformers", "transformers", "huggingface-hub", "datasets", "faster-whisper")
    ),
)
"""In the order in which they are told of."""

_PIPELINE_OF_SPACY: Final = re.compile(r"[a-z]{2,3}-(?:core|dep|ent|sent|blank)-")


def advice(packages: Iterable[str], text: str) -> Iterator[Fetching]:
    """The packages that fetch something, as far as the file that uses them has not seen to it.

    Of those that fetch from the same place, as sentence-transformers and the transformers that it needs, the first.

    Args:
        packages: names as pip or a ``.dist-info`` folder spells them.
        text: the file's.
    """
    names = {re.sub(r"[-_.]+", "-", package).lower() for package in packages}
    has_pipeline = any(map(_PIPELINE_OF_SPACY.match, names))
    told: set[str] = set()
    for known in KNOWN:
        settled = any(word in text for word in known.settled_by) or (known.name == "spacy" and has_pipeline)
        if known.name in names and known.source not in told and not settled:
            told.add(known.source)
            yield known
