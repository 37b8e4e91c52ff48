from __future__ import annotations

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as saved
from safetensors.torch import save_file
from torch import nn

from headstart.backbones.weights import load_weights
from headstart.backbones.weights_file import read_candidates, read_weights
from headstart.errors import ModelError, UnsafeFile

SHARED = Path(__file__).parents[2] / "../shared/weights"


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 7))


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return network().state_dict()


def negative(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: -tensor for name, tensor in state.items()}


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


def claim(*shape: int, start: int = 0, end: int = 8, dtype: str = "F32") -> dict[str, object]:
    """Describe a tensor as the header of a safetensors file does."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


HEADERS = {
    "overlap": {"a": claim(2), "b": claim(2, start=4, end=12)},
    "hole": {"a": claim(2), "b": claim(2, start=12, end=20)},
    "overflow": {"a": claim(2**62, 4)},
    "below zero": {"a": claim(-1)},
    "too large": {"a": claim(9)},
    "not all": {"a": claim(1, end=4)},
    "no type": {"a": claim(2, dtype="F31")},
    "no offsets": {"a": {"dtype": "F32", "shape": [2]}},
    "no header": [1, 2],
}


@pytest.mark.parametrize("name", HEADERS)
def test_m2_a_header_that_lies_is_refused_before_any_tensor_is_read(tmp_path, name):
    header = json.dumps(HEADERS[name]).encode().rjust(8)
    header = header if header.startswith(b"{") else b"{" + header
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(20 if name == "hole" else 8))
    with pytest.raises(ModelError, match=r"weights\.safetensors is not a valid safetensors"):
        read_weights(path)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 62) + b"{" + bytes(80),  # a huge header
        struct.pack("<Q", 8) + b"{broken}" + bytes(80),
        struct.pack("<Q", 50_000) + b'{"a":' + b"[" * 49_995,
    ],
)
def test_m2_a_header_that_can_t_be_read_is_refused(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.safetensors is not a valid safetensors"):
        read_weights(path)


def test_m2_many_entries_are_read_and_match_nothing(tmp_path):
    header = {f"k.{i}": claim(1, start=4 * i, end=4 * i + 4) for i in range(20_000)}
    content = json.dumps(header).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(content)) + content + bytes(80_000))
    with pytest.raises(ModelError, match="0 of its 9 tensors are there") as caught:
        load_weights(network(), path)
    assert len(str(caught.value)) < 500


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "plain.pth")
    bomb = tmp_path / "bomb.pth"
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as source,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert bomb.stat().st_size < 10_000
    with pytest.raises(UnsafeFile, match=r"would unpack to 400,\d+"):
        read_weights(bomb)


def test_a_tensor_of_more_numbers_than_the_file_has_is_refused(tmp_path):
    torch.save({"a": torch.ones(1).expand(10**12)}, tmp_path / "endless.pth")
    with pytest.raises(ModelError, match="a claims 1,000,000,000,000 numbers"):
        read_weights(tmp_path / "endless.pth")


@pytest.mark.parametrize(
    "odd",
    [
        torch.ones(2, device="meta"),  # no numbers at all
        torch.ones(2, dtype=torch.complex64),
    ],
    ids=["meta", "complex"],
)
def test_tensors_that_no_network_takes_are_left_out(tmp_path, odd):
    torch.save({"a": odd, "b": torch.ones(2)}, tmp_path / "odd.pth")
    assert read_weights(tmp_path / "odd.pth").keys() == {"b"}


@pytest.mark.parametrize("cut", [10, 100, 1000])
def test_a_file_cut_short_is_damaged(tmp_path, cut):
    for name, write in (("a.pth", torch.save), ("a.safetensors", save_file)):
        whole = tmp_path / name
        write(tensors() | {"more": torch.ones(500)}, whole)
        whole.write_bytes(whole.read_bytes()[:cut])
        with pytest.raises(ModelError, match=name):
            read_weights(whole)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02.",  # ends before it has anything: an IndexError
        b"\x80\x02NQ.",  # refers to what is none of PyTorch's: an AssertionError
        b"\x80\x02ccollections\nOrderedDict\nK\x05R.",  # called with a number: a TypeError
        b"\x80\x02X\x05\x00",  # a text whose length is cut off: a struct.error
        b"\x80\x02]K\x01K\x02s.",  # an item for a list
        b"\x80\x02",
    ],
)
def test_m2_a_malformed_pickle_in_a_sound_archive_is_damaged(tmp_path, pickled):
    path = tmp_path / "weights.pth"
    with_pickle(path, pickled)
    with pytest.raises(ModelError, match=r"weights\.pth") as caught:
        read_weights(path)
    assert "\n" not in caught.value.message


def with_pickle(path: Path, pickled: bytes) -> None:
    """Write a PyTorch file that holds other instructions than its tensors need."""
    torch.save(tensors(), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, pickled if name.endswith("data.pkl") else content)


def bytes_of(new: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": tensors()}, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


SOUND = (bytes_of(True), bytes_of(False), saved(tensors()))


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(SOUND),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
)
def test_m2_whatever_happens_to_its_bytes_a_file_is_read_or_refused(tmp_path, sound, changes, cut):
    content = bytearray(sound)
    for place, value in changes:
        content[int(place * len(content))] = value
    path = tmp_path / "weights.bin"
    path.write_bytes(content[: max(1, int(cut * len(content)))] if cut > 0.1 else content)
    with suppress(ModelError):
        assert all(isinstance(tensor, torch.Tensor) for tensor in read_weights(path).values())


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6))
def test_m2_whatever_its_pickle_says_a_file_is_read_or_refused(tmp_path, changes):
    with zipfile.ZipFile(io.BytesIO(SOUND[0])) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        pickled = bytearray(archive.read(name))
    for place, value in changes:
        pickled[place % len(pickled)] = value
    path = tmp_path / "weights.bin"
    with_pickle(path, bytes(pickled))
    with suppress(ModelError):
        read_weights(path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"<html>not found</html>"])
def test_what_is_no_weight_file_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UnsafeFile, match="neither a safetensors nor a PyTorch file"):
        read_weights(path)


def test_keras_files_are_named_as_such(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(ModelError, match=r"weights\.h5 is an HDF5 file") as caught:
        read_weights(path)
    assert "--backbone keras:NAME" in caught.value.hint


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
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {f"module._orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {"checkpoint": 1, "model": {"state_dict": state}},
        lambda state: {"model_state_dict": state, "model": "resnet", "loss": torch.ones(1)},
        lambda state: {"net": state, "acc": 93.1},
        lambda state: {"model": negative(state), "model_ema": state},
        lambda state: {"student": negative(state), "teacher": state},
    ],
)
@pytest.mark.parametrize("new", [True, False])
def test_plain_nested_and_wrapped_state_dicts_are_the_same(tmp_path, wrap, new):
    path = tmp_path / "weights.pth"
    torch.save(wrap(tensors()), path, _use_new_zipfile_serialization=new)
    found = read_weights(path)
    assert found.keys() == tensors().keys()
    assert all(torch.equal(found[key], value) for key, value in tensors().items())


def test_every_state_dict_is_found_with_its_keys_averages_first(tmp_path):
    first, second = tensors(), negative(tensors())
    document = {
        "model": {f"module.{name}": value for name, value in first.items()},
        "ema": {"decay": torch.tensor(0.999)},
        "checkpoint": first,  # no key that training scripts put a network under
        "state_dict": {"teacher": second, "epoch": 3},
        "loss": torch.ones(1),
    }
    torch.save(document, tmp_path / "many.pth")
    found = read_candidates(tmp_path / "many.pth")
    assert list(found) == ["ema", "state_dict.teacher", "model", ""]
    assert {key: set(value) for key, value in found.items()} == {
        "ema": {"decay"},
        "state_dict.teacher": set(second),
        "model": set(first),
        "": {"loss"},
    }
    chosen = read_weights(tmp_path / "many.pth")  # the largest, and the average of two as large
    assert torch.equal(chosen["0.weight"], second["0.weight"])


def test_any_number_of_wrappers_is_taken_off(tmp_path):
    name = "module." * 5000 + "weight"
    torch.save({name: torch.ones(2)}, tmp_path / "wrapped.pth")
    assert read_weights(tmp_path / "wrapped.pth").keys() == {"weight"}


def test_a_dict_that_holds_itself_ends(tmp_path):
    document = {"weight": torch.ones(2)}
    document["model"] = document
    torch.save(document, tmp_path / "circle.pth")
    assert read_weights(tmp_path / "circle.pth").keys() == {"weight"}


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
