"""Safetensors files written a tensor at a time: the library reads what was meant."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from headstart.errors import ModelError
from headstart.files import file_digest
from headstart.training.tensorfile import TensorFile, read_tensors

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
DTYPES = (*FLOATS, *INTEGERS, torch.bool)


def values(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Return different numbers of a type; a few odd ones among the floats."""
    numbers = torch.arange(torch.Size(shape).numel()).reshape(shape) * 37 % 101 - 50
    if dtype == torch.bool:
        return numbers % 3 == 0
    numbers = numbers.to(dtype)
    if dtype in FLOATS and numbers.ndim:
        odd = torch.tensor([torch.nan, -torch.inf, -0.0, torch.finfo(dtype).tiny / 2])
        numbers.view(-1)[: len(odd)] = odd.to(dtype)[: numbers.numel()]
    return numbers


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same type, shape and bits."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    bits = [t.resolve_neg().clone(memory_format=torch.contiguous_format) for t in (one, other)]
    return torch.equal(*(t.reshape(-1).view(torch.uint8) for t in bits))


def written(tensors: dict[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    content = TensorFile(tensors)
    assert content.write(file) == hashlib.sha256(file.getvalue()).hexdigest()
    assert content.nbytes == len(file.getvalue())
    return file.getvalue()


def test_every_type_and_shape_comes_back_bit_for_bit():
    shapes = ((), (0,), (1,), (3,), (5, 7), (2, 3, 0), (2, 3, 5, 7))
    tensors = {f"{dtype}.{shape}": values(dtype, *shape) for dtype in DTYPES for shape in shapes}
    read = load(written(tensors))
    assert set(read) == set(tensors)
    assert [name for name in tensors if not same(read[name], tensors[name])] == []


def test_any_layout_comes_back_by_value(tmp_path):
    image = values(torch.float32, 2, 3, 5, 7)
    whole = values(torch.float32, 6, 4)
    tensors = {
        "channels last": image.to(memory_format=torch.channels_last),
        "transposed": whole.t(),
        "every other": whole[::2, 1::2],
        "expanded": torch.ones(1, 3).expand(4, 3),
        "part": whole[2:4],
        "one of every other": whole[:1, 1].as_strided((1,), (2,), 1),
        "alias": whole,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "negative": torch.tensor([1 + 2j]).conj().imag,
    }
    assert not tensors["channels last"].is_contiguous()
    (tmp_path / "file").write_bytes(written(tensors))
    read = read_tensors(tmp_path / "file")
    assert [name for name in tensors if not same(read[name], tensors[name].detach())] == []
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in read.values())


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])).filter(lambda n: n != "__metadata__"),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)),
        max_size=6,
    )
)
def test_any_mix_of_names_and_sizes_comes_back(layout):
    tensors = {name: values(dtype, *shape) for name, (dtype, shape) in layout.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(written(tensors))
        read = read_tensors(path)
    assert set(read) == set(tensors)
    assert all(same(read[name], tensors[name]) for name in tensors)


def test_the_order_of_the_names_makes_no_difference():
    tensors = {"a": values(torch.bool, 3), "b": values(torch.int64, 2), "c": torch.ones(3)}
    assert written(tensors) == written(dict(reversed(tensors.items())))


def test_every_tensor_starts_where_its_elements_can_be_read_in_place():
    tensors = {f"{n}.{dtype}": values(dtype, 3) for n in range(2) for dtype in DTYPES}
    content = written(tensors)
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    places = json.loads(content[8 : 8 + length])
    starts = {name: place["data_offsets"][0] for name, place in places.items()}
    assert {name: starts[name] % tensors[name].element_size() for name in tensors} == (
        dict.fromkeys(tensors, 0)
    )


def test_no_copy_is_made_of_what_lies_well():
    class Recorded(io.BytesIO):
        places: list[int] = []  # noqa: RUF012

        def write(self, content):
            if isinstance(content, memoryview):
                self.places.append(torch.frombuffer(content, dtype=torch.uint8).data_ptr())
            return super().write(content)

    file, tensor = Recorded(), torch.ones(5, 5)
    TensorFile({"a": tensor}).write(file)
    assert file.places == [tensor.data_ptr()]


def test_what_is_read_does_not_depend_on_the_file(tmp_path):
    path, tensor = tmp_path / "file", values(torch.float32, 50)
    path.write_bytes(written({"a": tensor}))
    before = file_digest(path)
    read = read_tensors(path)
    read["a"].add_(1)
    assert file_digest(path) == before
    again = read_tensors(path)
    path.write_bytes(b"")
    assert same(again["a"], tensor)


@pytest.mark.parametrize(
    "tensors",
    [{"a": torch.ones(2, dtype=torch.complex64)}, {"__metadata__": torch.ones(2)}],
    ids=["type", "name"],
)
def test_what_safetensors_can_t_hold_is_refused(tensors):
    with pytest.raises(ValueError, match="can't be kept in safetensors"):
        TensorFile(tensors)


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"not tensors at all")
    with pytest.raises(ModelError, match="not a valid safetensors file") as raised:
        read_tensors(tmp_path / "file")
    assert "--out" in raised.value.hint
