"""The user's own weights, from the command line to the report."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commands import EXTRACTION
from headstart.files import file_digest, read_json, write_json

SHARED = Path(__file__).parents[1] / "../shared/weights"
REAL = {
    "mobilenet_v2/mobilenetv2_100_timm.safetensors": "timm:mobilenetv2_100",
    "mobilenet_v2/mobilenet_v2_torchvision.pth": "torchvision:mobilenet_v2",
    "squeezenet1_1/squeezenet1_1_torchvision.pth": "torchvision:squeezenet1_1",
}


@pytest.fixture
def part(tiny, tmp_path):
    """A file with half of the tiny network's tensors, one of another shape among them."""
    tensors = load_file(tiny[3])
    kept = dict(list(tensors.items())[: len(tensors) // 2])
    kept["conv1.0.weight"] = torch.ones(5, 3, 3, 3)
    save_file(kept, tmp_path / "part.safetensors")
    return tmp_path / "part.safetensors"


def with_weights(tiny, file) -> list[object]:
    return [*tiny[:3], file, *tiny[4:]]


@pytest.mark.parametrize("inner", ["", "model"])
def test_transfer_from_an_earlier_run(command, photos, tiny_run, tmp_path, inner):
    options = ("--weights", tiny_run / inner, *EXTRACTION, "--precision", "fp32", "--json")
    report = command("fit", photos, "--out", tmp_path / "run", *options).document
    first = load_file(tiny_run / "model" / "model.safetensors")
    second = load_file(tmp_path / "run" / "model" / "model.safetensors")
    frozen = [name for name in first if not name.startswith("fc.")]
    assert all(torch.equal(first[name], second[name]) for name in frozen)
    assert report["backbone"]["name"] == "timm:test_resnet"
    assert "model/model.safetensors" in report["backbone"]["weights"]
    assert f"{len(frozen)} of {len(frozen)} tensors matched" in report["backbone"]["weights"]
    plan = command("fit", photos, *options, "--dry-run").document["plan"]
    assert plan["backbone"]["input_spec"]["height"] == 64  # the earlier run's --size
    assert command("predict", tmp_path / "run", photos / "cat", "--json").code == 0


def test_an_earlier_run_is_started_from_by_scratch_in_its_form_only(command, photos, tiny_run):
    options = ("--weights", tiny_run, "--strategy", "scratch", "--dry-run", "--json")
    plan = command("fit", photos, *options).document["plan"]
    assert plan["backbone"]["name"].startswith("timm:test_resnet")
    assert plan["backbone"]["weights"] == "random, seed 0"


def test_another_backbone_than_the_earlier_runs_is_refused(command, photos, tiny_run, tmp_path):
    options = ("--weights", tiny_run, "--backbone", "timm:test_vit", *EXTRACTION)
    message = command("fit", photos, *options, "--out", tmp_path / "run").refusal(2)
    assert f"{tiny_run / 'model'} holds a classifier on timm:test_resnet" in message
    assert "Leave --backbone away" in message
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_is_refused(command, photos, tmp_path):
    message = command(
        "fit", photos, *EXTRACTION, "--weights", photos, "--out", tmp_path / "run"
    ).refusal(4)
    assert f"{photos} is a folder without a finished classifier" in message


def test_a_part_needs_a_word(command, photos, tiny, part, tmp_path):
    options = [*with_weights(tiny, part), "--out", tmp_path / "run"]
    message = command("fit", photos, *options).refusal(4)
    assert str(part) in message
    assert "conv1.0.weight has the shape (5, 3, 3, 3)" in message
    assert "--allow-partial" in message
    assert not (tmp_path / "run").exists()
    report = command("fit", photos, *options, "--allow-partial", "--json").document
    assert "1 of another shape, left random (conv1.0.weight)" in report["backbone"]["weights"]
    lines = command("fit", photos, *options[:-2], "--allow-partial", "--dry-run").out
    assert "note      Only a part of the network is pre-trained: part.safetensors gives" in lines
    events = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    lines = next(event["lines"] for event in events if event["event"] == "plan")
    assert any("Only a part of the network" in line for line in lines)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "left random" in card


def test_a_part_is_of_a_file(command, photos):
    assert "needs --weights" in command("fit", photos, "--allow-partial").refusal(2)


def test_features_are_embedded_with_a_part(command, photos, tiny_network, part, tmp_path):
    options = [*with_weights(tiny_network, part), "--out", tmp_path / "features.npz"]
    assert command("embed", photos, *options).code == 4
    assert command("embed", photos, *options, "--allow-partial").code == 0


def test_what_lies_beside_a_link_is_found_again_when_the_run_is_resumed(
    command, photos, tiny, tmp_path
):
    """The Hugging Face hub keeps its files as links to others that have nothing beside them."""
    link = tmp_path / "snapshot" / "model.safetensors"
    link.parent.mkdir()
    link.symlink_to(tiny[3])
    config = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 96, 96]}
    write_json(
        link.parent / "config.json", {"architecture": "test_resnet", "pretrained_cfg": config}
    )
    options = (*tiny[:2], "--weights", link, "--precision", "fp32", *EXTRACTION)
    assert command("fit", photos, *options, "--out", tmp_path / "run").code == 0
    (tmp_path / "run" / "report.json").unlink()  # as if it had been stopped
    shutil.rmtree(tmp_path / "run" / "model")
    assert command("resume", tmp_path / "run").code == 0
    made = read_json(tmp_path / "run" / "model" / "headstart.json")
    assert made["input_spec"]["height"] == 96
    assert "snapshot/model.safetensors" in made["origin"]["weights"]


def test_a_file_of_keras_is_told_where_it_goes(command, photos, tiny, tmp_path):
    (tmp_path / "mine.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    message = command("fit", photos, *with_weights(tiny, tmp_path / "mine.weights.h5")).refusal(4)
    assert "mine.weights.h5 is an HDF5 file" in message
    assert "--backbone keras:NAME" in message


class Payload:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("signed", [False, True])
def test_m1_a_pickle_in_an_earlier_run_is_never_run(command, photos, tiny_run, tmp_path, signed):
    marker, run = tmp_path / "marker", Path(shutil.copytree(tiny_run, tmp_path / "run"))
    file, manifest = run / "model" / "model.safetensors", run / "model" / "MANIFEST.json"
    file.write_bytes(pickle.dumps(Payload(marker)))
    if signed:
        files = read_json(manifest)["files"] | {file.name: file_digest(file)}
        write_json(manifest, {"format": 1, "files": files})
    message = command(
        "fit", photos, *EXTRACTION, "--weights", run, "--out", tmp_path / "new"
    ).refusal(4)
    assert "model.safetensors" in message
    assert ("neither a safetensors nor" if signed else "was changed since") in message
    assert not marker.exists()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("file", REAL)
def test_real_weights_are_taken_whole(command, photos, file):
    path = SHARED / file
    if not path.exists():
        pytest.skip("the shared weights are not here")
    options = ("--backbone", REAL[file], "--weights", path, "--size", "64", *EXTRACTION)
    document = command("fit", photos, *options, "--dry-run", "--json").document
    told = document["plan"]["backbone"]["weights"]
    matched, total = told.partition("(")[2].split(" tensors")[0].split(" of ")
    assert matched == total
    assert "missing" not in told
    assert any("assumed the zoo's own" in note for note in document["notes"])


def test_real_weights_in_the_names_of_another_zoo_are_refused(command, photos):
    path = SHARED / "mobilenet_v2/mobilenet_v2_torchvision.pth"
    if not path.exists():
        pytest.skip("the shared weights are not here")
    options = ("--backbone", "timm:mobilenetv2_100", "--weights", path, *EXTRACTION)
    message = command("fit", photos, *options).refusal(4)
    assert "missing are conv_stem.weight" in message
    assert "features.0.0.weight" in message
    assert "in the zoo it came from" in message
