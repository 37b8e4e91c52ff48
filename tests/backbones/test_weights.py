from __future__ import annotations

import json
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.backbones.weights import load_weights, read_weights
from headstart.errors import ModelError, UnsafeFile

SHARED = Path(__file__).parents[2] / "../shared/weights"


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 7))


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return network().state_dict()


class Payload:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


# --- what is refused (FAULTS M1) -------------------------------------------------------------


def raw(path: Path, payload: Payload) -> None:
    path.write_bytes(pickle.dumps({"weight": payload}))


def old_protocol(path: Path, payload: Payload) -> None:
    path.write_bytes(pickle.dumps(payload, protocol=0))


def in_torch_archive(path: Path, payload: Payload) -> None:
    torch.save({"state_dict": tensors(), "extra": payload}, path)


def in_old_torch_file(path: Path, payload: Payload) -> None:
    torch.save({"weight": payload}, path, _use_new_zipfile_serialization=False)


def in_other_archive(path: Path, payload: Payload) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.pkl", pickle.dumps(payload))


def behind_a_safetensors_header(path: Path, payload: Payload) -> None:
    path.write_bytes(struct.pack("<Q", 2) + b"{}" + pickle.dumps(payload))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th", ".safetensors", ".bin", ".keras"])
@pytest.mark.parametrize(
    "write", [raw, old_protocol, in_torch_archive, in_old_torch_file, in_other_archive]
)
def test_code_in_a_file_is_refused_and_never_runs(tmp_path, write, suffix):
    path, marker = tmp_path / f"weights{suffix}", tmp_path / "marker"
    write(path, Payload(marker))
    with pytest.raises(UnsafeFile, match=path.name) as caught:
        read_weights(path)
    assert not marker.exists()
    assert "state_dict" in caught.value.hint


def test_the_payload_would_have_run(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


def test_a_pickle_behind_a_safetensors_header_is_not_read(tmp_path):
    path, marker = tmp_path / "weights.safetensors", tmp_path / "marker"
    behind_a_safetensors_header(path, Payload(marker))
    with pytest.raises(ModelError, match=path.name):
        read_weights(path)
    assert not marker.exists()


def test_a_torchscript_program_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), path)
    with pytest.raises(UnsafeFile, match=r"model\.pt"):
        read_weights(path)


# --- what is damaged -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 62) + b"{" + bytes(30),  # a huge header
        struct.pack("<Q", 8) + b"{broken}" + bytes(8),
        struct.pack("<Q", 74)
        + json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}).encode(),
    ],
)
def test_a_bad_safetensors_header_is_refused(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content.ljust(90))
    with pytest.raises(ModelError, match=r"weights\.safetensors is not a valid safetensors"):
        read_weights(path)


@pytest.mark.parametrize("cut", [10, 100, 1000])
def test_a_file_cut_short_is_damaged(tmp_path, cut):
    for name, write in (("a.pth", torch.save), ("a.safetensors", save_file)):
        whole = tmp_path / name
        write(tensors() | {"more": torch.ones(500)}, whole)
        whole.write_bytes(whole.read_bytes()[:cut])
        with pytest.raises(ModelError, match=name):
            read_weights(whole)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"<html>not found</html>"])
def test_what_is_no_weight_file_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UnsafeFile, match="neither a safetensors nor a PyTorch file"):
        read_weights(path)


def test_keras_files_are_named_as_such(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(ModelError, match="HDF5"):
        read_weights(path)


def test_missing_files_and_files_without_tensors(tmp_path):
    with pytest.raises(ModelError, match=r"none\.pth can't be read"):
        read_weights(tmp_path / "none.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ModelError, match="holds no tensors"):
        read_weights(tmp_path / "empty.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="holds no tensors"):
        read_weights(tmp_path / "list.pth")


# --- what is read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"state": {}}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"module.{key}": v for key, v in state.items()}},
        lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    ],
)
@pytest.mark.parametrize("new", [True, False])
def test_plain_nested_and_wrapped_state_dicts_are_the_same(tmp_path, wrap, new):
    path = tmp_path / "weights.pth"
    torch.save(wrap(tensors()), path, _use_new_zipfile_serialization=new)
    found = read_weights(path)
    assert found.keys() == tensors().keys()
    assert all(torch.equal(found[key], value) for key, value in tensors().items())


def test_content_counts_not_the_name(tmp_path):
    torch.save(tensors(), tmp_path / "a.safetensors")
    save_file(tensors(), tmp_path / "b.pth")
    assert read_weights(tmp_path / "a.safetensors").keys() == tensors().keys()
    assert read_weights(tmp_path / "b.pth").keys() == tensors().keys()


def test_real_checkpoints_are_read():
    path = SHARED / "resnet20_cifar10/resnet20-12fca82f.th"
    if not path.exists():
        pytest.skip("the shared weights are not here")
    found = read_weights(path)  # "module." prefix, under state_dict, PyTorch's old format
    assert found["conv1.weight"].shape == (16, 3, 3, 3)


# --- what matches ----------------------------------------------------------------------------


def save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def test_tensors_are_matched_by_name(tmp_path):
    path = save(tmp_path / "w.safetensors", tensors())
    target = network()
    assert load_weights(target, path) == "9 of 9 tensors matched"
    assert all(torch.equal(v, tensors()[key]) for key, v in target.state_dict().items())


def test_the_classifier_may_be_missing_or_another(tmp_path):
    for head in ({}, {"3.weight": torch.ones(2, 4), "3.bias": torch.ones(2)}):
        state = {key: v for key, v in tensors().items() if not key.startswith("3.")} | head
        path = save(tmp_path / "w.safetensors", state)
        target = network()
        before = target[3].weight.clone()
        assert load_weights(target, path, heads=["3"]) == "7 of 7 tensors matched"
        assert torch.equal(target[3].weight, before)


def test_a_wrong_shape_is_named(tmp_path):
    path = save(tmp_path / "w.safetensors", tensors() | {"0.weight": torch.ones(4, 1, 1, 1)})
    with pytest.raises(ModelError, match=r"0\.weight has the shape \(4, 1, 1, 1\)") as caught:
        load_weights(network(), path)
    assert "(4, 3, 1, 1)" in caught.value.message
    assert "1 of 9" in caught.value.message


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named(tmp_path, bad):
    state = tensors()
    state["1.running_var"][2] = bad
    with pytest.raises(ModelError, match=r"1\.running_var holds numbers that are not finite"):
        load_weights(network(), save(tmp_path / "w.safetensors", state))


def test_too_few_matches_are_refused_with_examples(tmp_path):
    state = {f"backbone.{key}": value for key, value in tensors().items()}
    target = network()
    before = target[0].weight.clone()
    with pytest.raises(ModelError, match=r"0 of its 9 tensors are there") as caught:
        load_weights(target, save(tmp_path / "w.safetensors", state))
    assert "0.weight" in caught.value.message
    assert "backbone.0.weight" in caught.value.message
    assert torch.equal(target[0].weight, before)


def test_what_is_missing_or_not_used_is_said(tmp_path):
    target = nn.Sequential(*(nn.Linear(2, 2) for _ in range(10)))
    state = target.state_dict() | {"ema.decay": torch.ones(1)}
    del state["4.bias"]
    summary = load_weights(target, save(tmp_path / "w.safetensors", state))
    assert summary == (
        "19 of 20 tensors matched; 1 missing, left random (4.bias); 1 not used (ema.decay)"
    )


def test_files_without_step_counters_are_complete(tmp_path):
    state = {key: v for key, v in tensors().items() if "num_batches" not in key}
    assert load_weights(network(), save(tmp_path / "w.safetensors", state)) == (
        "8 of 9 tensors matched"
    )


def test_half_precision_is_loaded_into_the_networks_own(tmp_path):
    state = {k: v.half() if v.is_floating_point() else v for k, v in tensors().items()}
    target = network()
    load_weights(target, save(tmp_path / "w.safetensors", state))
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, state["0.weight"].float())
