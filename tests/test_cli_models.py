"""``headstart models``: search, blocks, fetch."""

from __future__ import annotations

import pytest

from headstart.measuring import Measured


def test_it_lists_with_a_heading(command):
    lines = command("models", "squeezenet").out.splitlines()
    assert lines[0].split()[:5] == ["name", "parameters", "input", "top-1", "licence"]
    assert any(line.startswith("torchvision:squeezenet1_0@IMAGENET1K_V1") for line in lines)
    assert all("squeezenet" in line for line in lines[1:])


def test_its_json_has_all_fields(command):
    found = command("models", "bundled:*", "--json").document["models"]
    assert found[0] == {
        "name": "bundled:efficientnet_lite0",
        "zoo": "bundled",
        "parameters": 4_652_008,
        "input": 224,
        "top1": 0.751,
        "licence": "Apache-2.0",
        "cached": True,
    }
    assert [each["name"] for each in found[1:]] == [
        "bundled:efficientnet_lite1",
        "bundled:efficientnet_lite2",
    ]


def test_blocks_of_one_network(command):
    found = command("models", "--blocks", "timm:resnet18", "--size", 64, "--json").document
    assert found["name"] == "timm:resnet18.a1_in1k"
    assert found["blocks"][0]["stage"] == "stem"
    shown = command("models", "--blocks", "timm:resnet18", "--size", 64)
    assert "layer3.0" in shown.out
    assert "last layer: fc, taken off" in shown.out


def test_blocks_are_those_of_the_pretrained_form(command):
    name = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    shown = command("models", "--blocks", name, "--size", 64)
    assert shown.code == 0
    assert "note: Its batch normalisation keeps the statistics" in shown.out


def test_fetching_fetches_for_a_size(command):
    name = "bundled:efficientnet_lite0"
    assert command("models", "fetch", name, "--size", 64).code == 0
    assert "at most 4,096 pixels" in command("models", "fetch", name, "--size", 5000).refusal(2)


def test_fetching_says_where_weights_are(command):
    found = command("models", "fetch", "bundled:efficientnet_lite0")
    assert found.code == 0
    assert found.out.startswith("bundled:efficientnet_lite0: ImageNet, from the package")
    document = command("models", "fetch", "bundled:efficientnet_lite0", "--json").document
    assert [each["name"] for each in document["fetched"]] == ["bundled:efficientnet_lite0"]


def test_what_can_not_be_fetched_says_how_to_get_it(command, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = command("models", "fetch", "torchvision:squeezenet1_1").refusal(6)
    assert "squeezenet1_1" in message


def test_networks_are_measured_with_a_word_before_each(command, monkeypatch):
    asked = []

    def measure(names, *, progress, **options):
        asked.append((names, options))
        progress(0, len(names), names[0])
        numbers = {"parameters": 400_000, "top1": None, "bf16_ms": None, "fp32_ms": 0.5}
        memory = {"peak_bytes": 500_000_000, "gpu_bytes": None, "disk_bytes": 1_900_000}
        where = {"input": (32, 32), "precision": "fp32", "device": "cpu", "threads": 1}
        return [Measured(name=names[0], weights="random", **numbers, **memory, **where)]

    monkeypatch.setattr("headstart.measuring.measure", measure)
    found = command("models", "timm:test_resnet", "--measure", "--size", 32)
    assert asked == [(["timm:test_resnet"], {"size": 32, "allow_noncommercial": False})]
    assert found.code == 0
    assert found.err == "measuring timm:test_resnet (1 of 1)\n"
    heading, row, *notes = found.out.splitlines()
    assert heading.split()[:3] == ["name", "weights", "parameters"]
    assert row.split()[:2] == ["timm:test_resnet", "random"]
    assert notes[0].startswith("ms: an image's forward pass in a batch of 32 on cpu, 1 threads")
    command("models", "timm:test_resnet", "--measure", "--allow-noncommercial")
    assert asked[1][1] == {"size": None, "allow_noncommercial": True}


def test_what_was_measured_is_one_document(command):
    found = command("models", "timm:test_resnet", "--measure", "--size", 32, "--json")
    assert found.err == ""
    (one,) = found.document["measured"]
    assert one["name"] == "timm:test_resnet.r160_in1k"
    assert (one["input"], one["weights"]) == ([32, 32], "random")
    assert one["fp32_ms"] > 0
    assert one["peak_bytes"] is None or one["peak_bytes"] > 50 << 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nosuchnetworkatall",), "nosuchnetworkatall"),
        (("a.txt", "b.txt"), "One pattern at a time"),
        (("fetch",), "Which weights"),
        (("fetch", "timm:nosuchnetwork"), "nosuchnetwork"),
        (("resnet", "--blocks", "timm:resnet18"), "--blocks looks into one network"),
        (("--blocks", "timm:nosuchnetwork"), "nosuchnetwork"),
        (("resnet", "--size", "64"), "--size is about --blocks, --measure and fetch"),
        (("resnet", "--allow-noncommercial"), "and --measure: a search loads no weights"),
        (("--blocks", "timm:resnet18", "--allow-noncommercial"), "--blocks loads no weights"),
        (("--measure",), "must know which"),
        (("resnet", "--measure"), "at most 20 of them"),
        (("nosuchnetworkatall", "--measure"), "nosuchnetworkatall"),
        (("--blocks", "timm:resnet18", "--measure"), "with --blocks it is two things"),
        (("fetch", "timm:resnet18", "--measure"), "with fetch it is two things"),
    ],
)
def test_what_makes_no_sense_is_refused(command, words, said):
    assert said in command("models", *words).refusal(2)
