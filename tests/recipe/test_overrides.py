from __future__ import annotations

from builder.recipe import load


def test_values_are_yaml_and_are_written_over_the_file(good):
    recipe = good(
        "serving: {max_batch_size: 4}\n",
        "serving.max_batch_size=16",
        "name=other",
        "serving.dynamic_batching={max_queue_delay_microseconds: 5}",
        'serving.parameters.intra_op_thread_count="2"',
        "targets.cpu.hardware.vcpus=4",
        "targets.cpu.runtime=onnxruntime",
    )
    assert recipe.name == "other"
    assert recipe.serving.max_batch_size == 16
    assert recipe.serving.dynamic_batching.max_queue_delay_microseconds == 5
    assert recipe.serving.parameters == {"intra_op_thread_count": "2"}
    assert recipe.targets["cpu"].hardware.vcpus == 4
    assert recipe.overrides[0] == "serving.max_batch_size=16"


def test_a_later_one_wins_and_an_empty_one_takes_away(good):
    assert good("", "inputs.max_length=1", "inputs.max_length=2").inputs.max_length == 2
    assert good("inputs: {max_length: 3}\n", "inputs.max_length=").inputs.max_length is None


def test_the_value_may_hold_an_equals_sign(good):
    assert good("", "description=a=b").description == "a=b"


def test_lists_by_index(good):
    groups = good(
        "serving: {instance_group: [{count: 1}]}\n", "serving.instance_group.0.count=2"
    ).serving.instance_group
    assert [group.count for group in groups] == [2]
    groups = good(
        "", "serving.instance_group.0.count=3", "serving.instance_group.1.kind=KIND_CPU"
    ).serving.instance_group
    assert [(group.count, group.kind) for group in groups] == [(3, None), (None, "KIND_CPU")]


def test_an_override_heals_what_the_file_has_wrong(good):
    assert good("inputs: {max_length: x}\n", "inputs.max_length=7").inputs.max_length == 7


def test_an_override_of_an_alias_leaves_the_others_alone(good):
    more = """
targets:
  a: &a {runtime: onnxruntime, hardware: {vcpus: 2}}
  b: *a
"""
    targets = good(more, "targets.b.hardware.vcpus=8").targets
    assert (targets["a"].hardware.vcpus, targets["b"].hardware.vcpus) == (2, 8)


def test_the_place_of_a_problem_is_the_override(bad):
    assert bad("serving: {max_batch_size: 4}\n", "serving.max_batch_size=abc") == [
        "--set serving.max_batch_size=abc: serving.max_batch_size: must be a whole number, got the string 'abc'"
    ]
    assert bad("", "serving.max_batch_sise=1")[0].startswith(
        "--set serving.max_batch_sise=1: serving.max_batch_sise: unknown key; allowed: max_batch_size"
    )
    assert bad("", "targets.cpu.triton=25.10", "targets.cpu.runtime=onnxruntime") == [
        '--set targets.cpu.triton=25.10: targets.cpu.triton: must be a string, got the number 25.1; quote it: "25.10"'
    ]
    assert bad("shapes: {batch: {max: 8}}\n", "serving.max_batch_size=9") == [
        (
            "--set serving.max_batch_size=9: serving.max_batch_size: 9 is more than shapes.batch.max "
            "(recipe.yaml:5:23), which is 8"
        )
    ]


def test_what_cannot_be_written(bad):
    usage = "must be KEY=VALUE, such as serving.max_batch_size=16"
    assert bad("", "serving") == [f"--set serving: {usage}"]
    assert bad("", "=1") == [f"--set =1: {usage}"]
    assert bad("", "a..b=1") == [f"--set a..b=1: {usage}"]
    assert bad("", "a." * 50 + "b=1")[0].endswith(usage)
    assert bad("", "name.first=x") == [
        "--set name.first=x: name.first: name is the string 'tiny': nothing can be set inside it"
    ]
    assert bad("serving: {instance_group: [{count: 1}]}\n", "serving.instance_group.2.count=1") == [
        (
            "--set serving.instance_group.2.count=1: serving.instance_group.2.count: serving.instance_group is "
            "a list of 1: '2' is no index of it; allowed: 0 to 1"
        )
    ]
    assert bad("", "inputs.buckets=[1") == [
        "--set inputs.buckets=[1: not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"
    ]


def test_a_message_stays_on_one_line(bad):
    assert bad("", "inputs.padding=a\n\n b") == [
        r"--set inputs.padding=a\n\n b: inputs.padding: must be 'longest' or 'buckets', got the string 'a\nb'"
    ]


def test_the_file_is_not_touched(write):
    path = write()
    before = path.read_bytes()
    load(path, ["name=other"])
    assert path.read_bytes() == before
