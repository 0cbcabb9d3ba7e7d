"""What is swept: a recipe, an archive or anybody's repository, with the requests that it is sent."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.artifacts import Folder
from builder.building import build, selected_targets
from builder.core.digest import describe_folder, digest_json, digest_tree
from builder.core.report import Reporter, Silent
from builder.errors import ArchiveError, UserError
from builder.inspecting import RECIPES
from builder.package import collect, manifest_path
from builder.proving import facts_of
from builder.serving import DEFAULT_RELEASE, loadable
from builder.sweep.configs import CONFIG, called, completed, parsed, reachable, steps_of
from builder.sweep.requests import (
    Request,
    dtypes_of,
    from_file,
    from_samples,
    random_requests,
    samples_in,
    with_lengths,
)
from builder.tools import archive as archives
from builder.tools import hardware
from builder.verify.identity import describe_serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import Json
    from builder.sweep.lengths import Lengths
    from builder.sweep.setting import Setting
    from builder.verify.facts import ArchiveFacts
    from builder.verify.measure import Expected

log = logging.getLogger(__name__)

_TOKENIZER: Final = "/1/tokenizer.json"
_CONFIG_BYTES: Final = 1 << 20
_TOKENIZER_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """How a subject is opened.

    Args:
        target: of a recipe; None: its only one.
        overrides: ``KEY=VALUE``, as with ``--set``.
        model: of a repository, what clients call; None: its only ensemble, or its only model.
        triton: of a repository, or an archive without a manifest: the release that will serve it.
        samples: a file with requests, for a repository or in place of an archive's own: ``.jsonl`` with tensors by
            name, or ``.txt`` with texts.
        lengths: how long the texts of the load are; None: as the samples are.
        rows: how many different requests are sent, in turn.
        sizes: of a repository, without samples: the size of an input's axes that are -1, by the input's name; ``*``
            for all others.
        seed: of all that is random.
        out: where a recipe's archive goes.
        reporter: who is told of the stages of a build.
    """

    target: str | None = None
    overrides: tuple[str, ...] = ()
    model: str | None = None
    triton: str | None = None
    samples: Path | None = None
    lengths: Lengths | None = None
    rows: int = 16
    sizes: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    out: Path = Path("dist")
    reporter: Reporter = field(default=Silent(), compare=False)


@dataclass(frozen=True)
class Subject:
    """What is swept. Configs are ModelConfigs as JSON data, by the name of the model.

    Args:
        path: the archive or repository that is served.
        name: the model that clients call.
        load: what a server loads by name.
        main: the step whose knobs have no prefix.
        steps: the models that clients do not call, in the order of the ensemble; of a single model, itself.
        requests: what is sent, in turn.
        expected: what the archive says of its samples, or None: then answers are held against the server's own.
        tolerances: what ``expected`` is held against.
        digest: identity for a record: the tree, the requests, the server, the hardware.
        record: the same, in words.
        target: of the recipe that it was built from; None: nobody knows.
    """

    path: Path
    name: str
    load: tuple[str, ...]
    main: str
    steps: tuple[str, ...]
    configs: Mapping[str, Mapping[str, Json]]
    requests: tuple[Request, ...]
    triton: str
    digest: str
    expected: Expected | None = None
    facts: ArchiveFacts | None = None
    tolerances: Mapping[str, float] = field(default_factory=dict)
    record: Mapping[str, Json] = field(default_factory=dict)
    recipe: Path | None = None
    options: Options = field(default_factory=Options)
    target: str | None = None

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """The requests, as perf_analyzer is told of them."""
        return [request.row for request in self.requests]

    @cached_property
    def max_batch_size(self) -> int:
        """Items in one request at most; 0: requests have no batch axis."""
        return int(self.configs[self.name].get("max_batch_size", 0))

    def model_of(self, step: str) -> str:
        """The model that a knob's prefix means: a step's short name, or the model's own; none: the main model.

        Raises:
            UserError: there is no such step.
        """
        for model in (step, f"{self.name}-{step}") if step else (self.main,):
            if model in self.configs:
                return model
        known = ", ".join(model.removeprefix(f"{self.name}-") for model in self.steps)
        raise UserError(f"knob of step {step}: {self.name} has no such step; it has: {known}")


def open_subject(path: Path, options: Options = Options()) -> Subject:
    """Opens what is named.

    A recipe is built, without being verified; what is in the store is not built again.

    Raises:
        UserError: it is none of the three, or an option does not fit it.
        TritonsmithError: a recipe cannot be built.
    """
    if path.suffix in RECIPES and path.is_file():
        return _of_recipe(path, options)
    if path.is_dir():
        return _of_repository(path, options)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder", mend="name a recipe, an archive or a model repository")
    if manifest_path(path).is_file():
        return _of_archive(path, options)
    raise ArchiveError(
        f"{path}: no manifest lies beside it", mend="keep both together, or unpack it and name the folder"
    )


def variant(subject: Subject, setting: Setting) -> Subject:
    """The subject, built with the knobs of a setting that need a build: see :data:`BUILDS`.

    Raises:
        UserError: the subject is no recipe, or a knob is unknown.
        TritonsmithError: it cannot be built.
    """
    if not setting.values:
        return subject
    if subject.recipe is None:
        raise UserError(f"knob {setting.values[0][0]}: needs a build, and {subject.path} is no recipe")
    options = subject.options
    target = str(setting.get("@target", options.target))
    overrides = list(options.overrides)
    for knob, value in setting.values:
        if knob not in BUILDS:
            raise UserError(f"knob {knob}: unknown; allowed: {', '.join(BUILDS)}")
        if (place := BUILDS[knob]) and value is not None:
            said = json.dumps(list(value)) if isinstance(value, tuple) else value
            overrides.append(f"{place.format(target=target)}={said}")
    return open_subject(subject.recipe, replace(options, target=target, overrides=tuple(overrides)))


BUILDS: Final = {
    "@precision": "targets.{target}.precision",
    "@padding": "inputs.padding",
    "@buckets": "inputs.buckets",
    "@target": "",
}
"""Knob → what of the recipe it sets."""


def _of_recipe(path: Path, options: Options) -> Subject:
    from builder.recipe import load

    recipe = load(path, options.overrides)
    targets = selected_targets(recipe, () if options.target is None else (options.target,))
    if len(targets) != 1:
        raise UserError(f"{path}: has the targets {', '.join(targets)}; one at a time is swept", mend="name one")
    (result, *_) = build(recipe, targets, out=options.out, verify=False, reporter=options.reporter)
    if isinstance(result.delivery.archive, Folder):
        raise UserError(f"{path}: package.formats begins with {result.delivery.archive.format}, which is no archive")
    archive = _of_archive(result.delivery.archive.file.path, options)
    return replace(archive, recipe=path, options=replace(options, target=targets[0]), target=targets[0])


def _of_archive(path: Path, options: Options) -> Subject:
    from builder.verify.facts import check_files, check_metric
    from builder.verify.measure import read_expected

    delivery = collect(path)
    delivery.manifest.check_gpus(path)
    facts = facts_of(delivery)
    check_metric(facts)
    check_files(facts)
    texts = archives.read_small(path, f"/{CONFIG}", limit_bytes=_CONFIG_BYTES)
    configs = {Path(name).parent.name: parsed(text, f"{path}:{name}") for name, text in texts.items()}
    if facts.flat:
        configs = {facts.name: next(iter(configs.values()))}
    expected = read_expected(facts)
    requests = from_samples(expected.samples, configs[facts.name], options)
    if options.samples is not None:
        requests = from_file(options.samples, expected.samples, configs[facts.name], options.rows)
    if options.lengths is not None:
        tokenizers = archives.read_small(path, _TOKENIZER, limit_bytes=_TOKENIZER_BYTES)
        requests = with_lengths(requests, expected.samples, options, next(iter(tokenizers.values()), None))
    load = facts.load_models or (facts.name,)
    subject = _made(path, facts.name, load, configs, requests, facts.tree_digest, facts.triton, options)
    manifest = delivery.manifest
    found = replace(subject, expected=expected, facts=facts, tolerances=manifest.gates.tolerances)
    return replace(found, target=manifest.target.name)


def _of_repository(path: Path, options: Options) -> Subject:
    load = loadable(path)
    name = called(path, load, options.model)
    triton = options.triton or DEFAULT_RELEASE
    configs = reachable(path, name)
    if not all(config.get("input") for config in configs.values()):
        configs = completed(path, configs, triton)
    requests = random_requests(configs[name], options)
    if options.lengths is not None:
        if options.samples is None:
            raise UserError(f"{path}: lengths: there is no text to make others of", mend="name a file with samples")
        tokenizer = next(iter(sorted(path.glob(f"*{_TOKENIZER}"))), None)
        read = tokenizer.read_text(encoding="utf-8") if tokenizer else None
        requests = with_lengths(requests, samples_in(options.samples, dtypes_of(configs[name])), options, read)
    tree = digest_tree(describe_folder(path))
    return _made(path, name, (name,), configs, requests, tree, triton, options)


def _made(  # noqa: PLR0913 - all that a subject is made of
    path: Path,
    name: str,
    load: Sequence[str],
    configs: Mapping[str, Mapping[str, Json]],
    requests: tuple[Request, ...],
    tree: str,
    triton: str,
    options: Options,
) -> Subject:
    called_by = [step["model_name"] for step in steps_of(configs[name])]
    steps = tuple(dict.fromkeys([*called_by, *(model for model in configs if model != name)])) or (name,)
    record: dict[str, Json] = {
        "name": name,
        "tree": tree,
        "requests": [request.digest for request in requests],
        "serving": describe_serving(triton, None),
        "hardware": hardware.fingerprint(),
    }
    return Subject(
        path=path,
        name=name,
        load=tuple(load),
        main=_main(name, called_by or list(steps), configs),
        steps=steps,
        configs=configs,
        requests=requests,
        triton=triton,
        digest=digest_json(record),
        record=record,
        options=options,
    )


def _main(name: str, steps: Sequence[str], configs: Mapping[str, Mapping[str, Json]]) -> str:
    """The one step that is no Python code; of several, or where all are, the last: the model comes after its texts."""
    models = [step for step in steps if configs.get(step, {}).get("backend") != "python"]
    return (models or list(steps) or [name])[-1]
