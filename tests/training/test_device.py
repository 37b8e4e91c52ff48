from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import SPEC, make_backbone, pixels
from torch import nn

from headstart.data.transforms import normalise
from headstart.errors import ResourceError, UnknownName, UsageError
from headstart.training import device as module
from headstart.training.device import (
    Forward,
    InferencePath,
    as_memory_allows,
    bf16_support,
    first_path,
    pick_device,
    processor,
)
from headstart.training.features import relative_distance

PATH = InferencePath("cpu", "fp32", "channels_last", 8)


class Machine:
    """A machine with these devices, as torch would tell of it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.has()

    def has(self, *, gpus: int = 0, mps: bool = False, bf16: bool = False, cpu: str = "") -> None:
        patch, cuda = self._patch, torch.cuda
        patch.setattr(cuda, "is_available", lambda: gpus > 0)
        patch.setattr(cuda, "device_count", lambda: gpus)
        patch.setattr(cuda, "get_device_name", lambda device: "NVIDIA Test")
        patch.setattr(
            cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation
        )
        patch.setattr(torch.backends.mps, "is_available", lambda: mps)
        patch.setattr(
            torch.cpu, "get_capabilities", lambda: {"avx2": True, cpu or "amx_bf16": bool(cpu)}
        )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


# Devices


def test_auto_is_the_best_there_is(machine) -> None:
    assert pick_device() == "cpu"
    machine.has(mps=True)
    assert pick_device("auto") == "mps"
    machine.has(gpus=1, mps=True)
    assert pick_device("auto") == "cuda"


@pytest.mark.parametrize("name", ["cpu", "mps", "cuda", "cuda:0", "cuda:1"])
def test_a_device_that_is_here_is_taken_as_named(machine, name) -> None:
    machine.has(gpus=2, mps=True)
    assert pick_device(name) == name
    torch.device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "cuda:2"])
def test_a_device_that_is_not_here_is_a_resource_error(machine, name) -> None:
    machine.has(gpus=2 if name == "cuda:2" else 0)
    with pytest.raises(ResourceError, match=r"(?s)not on this machine.*--device auto") as raised:
        pick_device(name)
    assert name in raised.value.message


@pytest.mark.parametrize(
    "name", ["gpu", "", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "cuda0", "cpu:x", "xla"]
)
def test_a_name_that_is_no_device_is_unknown(machine, name) -> None:
    machine.has(gpus=2)
    with pytest.raises(UnknownName) as raised:
        pick_device(name)
    assert raised.value.field == "device"


def test_a_processor_is_named_by_what_changes_numbers(machine, monkeypatch) -> None:
    machine.has(gpus=2)
    assert processor("cuda") == processor("cuda:1") == "cuda NVIDIA Test"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    older = processor("cpu")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert len({older, processor("cpu"), processor("cuda"), processor("mps")}) == 4


@pytest.mark.parametrize("cpu", ["amx_bf16", "avx512_bf16", "sve_bf16", "bf16"])
def test_bf16_is_native_where_the_processor_has_its_instructions(machine, cpu) -> None:
    assert bf16_support("cpu") is None
    machine.has(cpu=cpu)
    assert bf16_support("cpu") == cpu


def test_bf16_that_a_gpu_only_emulates_is_not_native(machine) -> None:
    machine.has(gpus=1)
    assert bf16_support("cuda") is None
    machine.has(gpus=1, bf16=True)
    assert bf16_support("cuda:0") == "NVIDIA Test"


def test_bf16_is_not_taken_where_torch_cannot_tell(machine, monkeypatch) -> None:
    machine.has(mps=True, cpu="amx_bf16")
    assert bf16_support("mps") is None
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert bf16_support("cpu") is None


# Paths


def test_auto_tries_bf16_where_it_is_native_and_says_why(machine) -> None:
    path = first_path("cpu", "auto", None)
    assert (path.precision, path.reason) == ("fp32", "this processor has no native bf16")
    machine.has(cpu="amx_bf16")
    path = first_path("cpu", "auto", None)
    assert path.precision == "bf16"
    assert "amx_bf16" in path.reason


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_was_asked_for_is_taken(machine, precision) -> None:
    for cpu in ("", "amx_bf16"):
        machine.has(cpu=cpu)
        path = first_path("cpu", precision, None)
        assert (path.precision, path.reason) == (precision, "asked for")


def test_a_path_fits_its_device(machine) -> None:
    machine.has(gpus=2, mps=True)
    sizes = {name: first_path(name, "fp32", None) for name in ("cpu", "mps", "cuda", "cuda:1")}
    assert sizes["cpu"].batch_size < sizes["mps"].batch_size < sizes["cuda"].batch_size
    assert sizes["cuda:1"] == replace(sizes["cuda"], device="cuda:1")
    assert {name: path.layout for name, path in sizes.items()} == {
        "cpu": "channels_last",
        "mps": "contiguous",
        "cuda": "channels_last",
        "cuda:1": "channels_last",
    }
    assert all(first_path(name, "auto", 7).batch_size == 7 for name in sizes)


def test_a_precision_or_batch_size_that_cannot_be_is_told(machine) -> None:
    with pytest.raises(UnknownName, match="fp16") as raised:
        first_path("cpu", "fp16", None)
    assert raised.value.field == "precision"
    for size in (0, -1):
        with pytest.raises(UsageError, match=f"at least 1, not {size}"):
            first_path("cpu", "fp32", size)


def test_all_that_changes_numbers_is_in_the_key_and_the_reason_is_not(monkeypatch) -> None:
    paths = [
        PATH,
        replace(PATH, precision="bf16"),
        replace(PATH, layout="contiguous"),
        replace(PATH, batch_size=16),
        replace(PATH, compiled=True),
    ]
    keys = [json.dumps(path.key()) for path in paths]
    monkeypatch.setattr(torch, "__version__", "0.0")
    keys.append(json.dumps(PATH.key()))
    monkeypatch.setattr(module, "processor", lambda device: "another")
    keys.append(json.dumps(PATH.key()))
    assert len(set(keys)) == 7
    assert replace(PATH, reason="why", parity=0.1).key() == PATH.key()


def test_a_path_comes_back_from_json_as_it_was() -> None:
    for path in (PATH, replace(PATH, precision="bf16", parity=0.0625, reason="why")):
        assert InferencePath.from_dict(json.loads(json.dumps(path.to_dict()))) == path


def test_a_path_in_fp32_is_otherwise_the_same() -> None:
    path = replace(PATH, precision="bf16", parity=0.1)
    assert path.in_fp32() == PATH


# The forward pass


def wide_backbone():
    """Make a backbone whose products are large enough that a small batch takes another way."""
    blocks = {
        "conv": nn.Sequential(nn.Conv2d(3, 64, 3, stride=2), nn.ReLU()),
        "wide": nn.Sequential(nn.Conv2d(64, 96, 3, padding=1), nn.BatchNorm2d(96), nn.SiLU()),
        "pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 257)),
    }
    return make_backbone(blocks, spec=replace(SPEC, height=32, width=32))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_do_not_depend_on_the_neighbours_by_a_bit(precision) -> None:
    backbone = wide_backbone()
    forward = Forward(backbone, replace(PATH, precision=precision))
    images = pixels(8, spec=backbone.input_spec)
    together = forward(images)
    for batch in ([3], [5, 3], [7, 6, 3, 1, 0], [3, 3, 3], list(range(7, -1, -1))):
        assert np.array_equal(forward(images[batch]), together[batch])


def test_every_batch_is_filled_up_unless_told_otherwise() -> None:
    backbone = make_backbone()
    seen = []
    backbone.blocks[0].module.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    forward = Forward(backbone, PATH)
    for count, pad in ((1, True), (8, True), (1, False), (5, False)):
        assert forward(pixels(count), pad=pad).shape == (count, backbone.feature_dim)
    assert [len(batch) for batch in seen] == [8, 8, 1, 5]


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_features_are_the_chains_of_normalised_pixels(layout) -> None:
    backbone = make_backbone()
    with torch.no_grad():
        inputs = torch.from_numpy(normalise(pixels(5), SPEC))
        expected = make_backbone().chain().eval()(inputs)
    features = Forward(backbone, replace(PATH, layout=layout))(pixels(5))
    assert (features.dtype, features.shape) == (np.float32, (5, backbone.feature_dim))
    np.testing.assert_allclose(features, expected, rtol=1e-5)


def test_bf16_is_near_fp32_but_not_the_same_and_float32_either_way() -> None:
    backbone = wide_backbone()
    images = pixels(8, spec=backbone.input_spec)
    exact = Forward(backbone, PATH)(images)
    near = Forward(backbone, replace(PATH, precision="bf16"))(images)
    assert near.dtype == np.float32
    assert 0 < relative_distance(near, exact) < 0.02
    assert np.array_equal(Forward(backbone, PATH)(images), exact)


def test_a_forward_pass_leaves_the_network_as_it_was() -> None:
    backbone = make_backbone()
    backbone.network.train()
    before = backbone.digest()
    Forward(backbone, replace(PATH, precision="bf16"))(pixels(3))
    assert backbone.digest() == before
    assert all(p.dtype == torch.float32 for p in backbone.network.parameters())
    assert not any(module.training for module in backbone.network)


# Parts of the chain


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cut", range(1, 5))
def test_a_prefix_and_then_the_rest_are_the_whole(cut, precision) -> None:
    path = InferencePath("cpu", precision, "channels_last", 4)
    backbone, images = make_backbone(), torch.from_numpy(pixels(4))
    whole = Forward(backbone, path).run(images)
    values = Forward(backbone, path, end=cut).run(images)
    rest = Forward(backbone, path, start=cut).run(values)
    assert torch.allclose(rest.float(), whole.float(), atol=1e-6 if precision == "fp32" else 0.05)
    assert torch.equal(Forward(backbone, path, end=5).run(images), whole)


def test_a_part_is_filled_up_like_the_whole() -> None:
    path = InferencePath("cpu", "fp32", "channels_last", 4)
    backbone = make_backbone()
    values = Forward(backbone, path, end=2).run(torch.from_numpy(pixels(4)))
    forward = Forward(backbone, path, start=2)
    assert torch.equal(forward.run(values[:1]), forward.run(values)[:1])


def test_what_comes_out_is_of_its_own_type() -> None:
    backbone, images = make_backbone(), torch.from_numpy(pixels(2))
    for precision, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        path = InferencePath("cpu", precision, "channels_last", 2)
        assert Forward(backbone, path, end=4).run(images).dtype == kind


@pytest.mark.parametrize(("most", "asked"), [(9, [7]), (3, [7, 3]), (2, [7, 3, 2])])
def test_as_many_are_computed_at_once_as_memory_allows(most, asked):
    seen: list[int] = []

    def compute(at_once: int) -> str:
        seen.append(at_once)
        if at_once > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return f"{at_once} at once"

    assert as_memory_allows(compute, 7, least=2) == f"{asked[-1]} at once"
    assert seen == asked


@pytest.mark.parametrize(("words", "asked"), [("out of memory", [5, 2]), ("shape", [5])])
def test_too_few_and_other_errors_are_the_callers(words, asked):
    seen: list[int] = []

    def compute(at_once: int) -> None:
        seen.append(at_once)
        raise RuntimeError(words)

    with pytest.raises(RuntimeError, match=words):
        as_memory_allows(compute, 5, least=2)
    assert seen == asked


def test_freed_memory_is_kept_on_a_processor_of_linux_only(monkeypatch):
    path = InferencePath("cpu", "fp32", "channels_last", 8)
    monkeypatch.setattr(module.platform, "libc_ver", lambda: ("glibc", "2.36"))
    asked = []

    class Library:
        def __init__(self, name):
            assert name is None

        def mallopt(self, name, value):
            asked.append((name, value))
            return 1

    monkeypatch.setattr(module.ctypes, "CDLL", Library)
    assert module.keep_freed_memory(path)
    assert len(asked) == 3
    assert not module.keep_freed_memory(replace(path, device="cuda"))
    monkeypatch.setattr(module.platform, "libc_ver", lambda: ("", ""))
    assert not module.keep_freed_memory(path)
    assert len(asked) == 3
