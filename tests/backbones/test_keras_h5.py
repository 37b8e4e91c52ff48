from __future__ import annotations

import sys
import zlib

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.backbones.keras_h5 import is_h5, read_h5, read_layers
from headstart.backbones.keras_weights import load_keras_file
from headstart.errors import MissingExtra, ModelError, UnsafeFile
from keras_files import classic


def test_the_arrays_of_a_file_have_the_names_of_their_layers(tmp_path):
    path = classic(tmp_path / "x.h5", {"a": {"a/kernel": np.ones((2, 3), "f4")}, "b": {}})
    assert is_h5(path)
    found = read_h5(path)
    assert list(found) == ["a.kernel"]
    assert found["a.kernel"].shape == (2, 3)


def test_a_list_of_names_may_be_in_parts(tmp_path):
    path = classic(
        tmp_path / "x.h5", {"a": {"a/kernel": np.ones(2)}, "b": {"b/kernel": np.ones(3)}}
    )
    with h5py.File(path, "a") as file:
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"a"], [b"b"]
    assert list(read_h5(path)) == ["a.kernel", "b.kernel"]


def test_layers_come_in_the_order_of_the_file(tmp_path):
    layers = {"b": {"b/kernel": np.ones(2)}, "in": {}, "a": {"outer/a/bias": np.ones(3)}}
    found = read_layers(classic(tmp_path / "x.h5", layers))
    assert [layer.path for layer in found] == [("b",), ("in",), ("outer", "a")]


# What must not be read


def test_a_link_to_another_file_is_refused(tmp_path):
    classic(tmp_path / "other.h5", {"a": {"a/kernel": np.ones(2)}})
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        file["a"] = h5py.ExternalLink("other.h5", "/a")
    with pytest.raises(UnsafeFile, match="points elsewhere with a"):
        read_h5(tmp_path / "x.h5")


def test_a_group_in_itself_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = file["/"]
    with pytest.raises(UnsafeFile, match="points elsewhere with a"):
        read_h5(tmp_path / "x.h5")


def test_arrays_in_other_files_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(b"12345678")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (2,), "f4", external=[(str(tmp_path / "secret"), 0, 8)])
    with pytest.raises(UnsafeFile, match="/a is not a plain array"):
        read_h5(tmp_path / "x.h5")


def test_what_would_fill_the_memory_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (1 << 40,), "f4", chunks=(1024,))
    with pytest.raises(UnsafeFile, match="would unpack to"):
        read_h5(tmp_path / "x.h5")


def test_what_is_compressed_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        array = file.create_dataset("a", (1024,), "f4", chunks=(1024,), compression="gzip")
        array.id.write_direct_chunk((0,), zlib.compress(bytes(4 << 20)))  # should be 4 KiB
    with pytest.raises(UnsafeFile, match="/a is compressed") as caught:
        read_h5(tmp_path / "x.h5")
    assert "h5repack" in caught.value.hint


def test_numbers_that_torch_does_not_know_are_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = np.ones(3, np.longdouble)
    with pytest.raises(UnsafeFile, match="/a is not a plain array of numbers"):
        read_h5(tmp_path / "x.h5")


@pytest.mark.parametrize("names", [["a/kernel", "a/kernel"], ["a/kernel", "./a/kernel"]])
@pytest.mark.parametrize("times", [1, 1500])
def test_an_array_is_read_once_however_often_it_is_named(tmp_path, names, times):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        file["a/a/kernel"] = np.ones(1000)
        file["a"].attrs["weight_names"] = [name.encode() for name in names * times]
    with pytest.raises(ModelError, match=r"a names .*a/kernel again"):
        read_h5(tmp_path / "x.h5")


def test_a_layer_is_read_once_however_often_it_is_named(tmp_path):
    path = classic(tmp_path / "x.h5", {"a": {"a/kernel": np.ones(2)}})
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = [b"a", b"a"]
    with pytest.raises(ModelError, match="a names a/kernel:0 again"):
        read_h5(path)


@pytest.mark.parametrize("name", ["n" * 1001, "/" * 1001, "\udc80"])
def test_a_name_is_of_a_names_length(tmp_path, name):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/vars/0"] = np.ones(2)
        file["a/vars"].attrs["name"] = name.encode("utf-8", "surrogateescape")
    with pytest.raises(ModelError, match="can't be read as HDF5"):
        read_h5(tmp_path / "x.h5")


def test_hdf5_of_others_is_an_error(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = np.ones(3)
    with pytest.raises(ModelError, match="holds no weights as Keras writes them"):
        read_h5(tmp_path / "x.h5")


def test_a_damaged_file_is_an_error(tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelError, match="can't be read as HDF5"):
        read_h5(path)
    assert not is_h5(tmp_path / "nothing.h5")


def test_a_list_of_names_that_are_not_there_is_an_error(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
    with pytest.raises(ModelError, match="can't be read as HDF5"):
        read_h5(tmp_path / "x.h5")


ODD = [5, 1.5, "a", [1, 2], [b"a", b"\xff"], h5py.Empty("f4"), np.zeros((2, 2)), [b"a/b", b"vars"]]
PLACES = ["", "a", "a/b", "a/vars", "vars", "model_weights", "layers/c/vars"]
THINGS = {
    "group": lambda file, place: file.require_group(f"{place}/g"),
    "array": lambda file, place: file.create_dataset(f"{place}/0", data=np.ones(2)),
    "scalar": lambda file, place: file.create_dataset(f"{place}/vars", data=1.0),
    "empty": lambda file, place: file.create_dataset(f"{place}/1", data=h5py.Empty("f4")),
    "type": lambda file, place: file.__setitem__(f"{place}/2", np.dtype("f4")),
    "digit": lambda file, place: file.create_dataset(f"{place}/\N{SUPERSCRIPT TWO}", data=1.0),
    "words": lambda file, place: file.create_dataset(f"{place}/w", data="words"),
}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    things=st.lists(st.tuples(st.sampled_from([*THINGS]), st.sampled_from(PLACES)), max_size=6),
    lists=st.lists(
        st.tuples(
            st.sampled_from(PLACES),
            st.sampled_from(["layer_names", "layer_names0", "weight_names", "name"]),
            st.sampled_from(ODD),
        ),
        max_size=5,
    ),
)
def test_whatever_hdf5_holds_it_is_read_or_refused(tmp_path_factory, things, lists):
    path = tmp_path_factory.mktemp("odd") / "x.h5"
    with h5py.File(path, "w") as file:
        for what, place in things:
            try:
                THINGS[what](file, place)
            except (ValueError, TypeError, RuntimeError, OSError, KeyError):
                continue  # there is something of that name already
        for place, name, value in lists:
            if f"/{place}" in file:
                file[f"/{place}"].attrs[name] = value
    read_or_refused(path)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    whole = classic(folder / "x.h5", {"a": {"a/kernel": np.ones(3), "a/bias": np.ones(2)}})
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(8, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    whole.write_bytes(content)
    read_or_refused(whole)


def read_or_refused(path):
    told = path.name
    try:
        found = read_h5(path)
        assert all(isinstance(value, np.ndarray | np.generic) for value in found.values())
        network = torch.nn.Module()
        network.a = torch.nn.ParameterDict({"kernel": torch.zeros(3), "bias": torch.zeros(2)})
        load_keras_file(network, path, allow_partial=True)
    except ModelError as error:
        told = error.message
    assert path.name in told


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"Reading x\.h5 needs the extra \[keras\]"):
        read_h5(tmp_path / "x.h5")
