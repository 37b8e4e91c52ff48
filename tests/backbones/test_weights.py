from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.backbones.weights import compare, load_weights, match
from headstart.errors import ModelError

SHARED = Path(__file__).parents[2] / "../shared/weights"


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 7))


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return network().state_dict()


def save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def test_tensors_are_matched_by_name(tmp_path):
    path = save(tmp_path / "w.safetensors", tensors())
    target = network()
    assert load_weights(target, path).summary == "9 of 9 tensors matched"
    assert all(torch.equal(v, tensors()[key]) for key, v in target.state_dict().items())


def test_the_classifier_may_be_missing_or_another(tmp_path):
    for head in ({}, {"3.weight": torch.ones(2, 4), "3.bias": torch.ones(2)}):
        state = {key: v for key, v in tensors().items() if not key.startswith("3.")} | head
        path = save(tmp_path / "w.safetensors", state)
        target = network()
        before = target[3].weight.clone()
        assert load_weights(target, path, heads=["3"]).summary == "7 of 7 tensors matched"
        assert torch.equal(target[3].weight, before)


def test_a_wrong_shape_is_named(tmp_path):
    path = save(tmp_path / "w.safetensors", tensors() | {"0.weight": torch.ones(4, 1, 1, 1)})
    with pytest.raises(ModelError, match=r"0\.weight has the shape \(4, 1, 1, 1\)") as caught:
        load_weights(network(), path)
    assert "(4, 3, 1, 1)" in caught.value.message
    assert "1 of 9" in caught.value.message


def negative(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: -tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"ema": {"decay": torch.ones(1)}, "model": tensors()}, "model"),
        ({"student": negative(tensors()), "teacher": tensors()}, "teacher"),
        ({"model": {"state_dict": tensors()}, "ema": {"0.weight": torch.ones(1)}},
         "model.state_dict"),
        ({"model_ema": dict(list(tensors().items())[:2]), "model": tensors()}, "model"),
        ({"teacher": {f"backbone.{n}": v for n, v in tensors().items()},
          "student": negative(tensors())}, "teacher"),
    ],
)  # fmt: skip
def test_of_several_state_dicts_the_one_that_fits_is_taken_and_named(tmp_path, document, key):
    torch.save(document, tmp_path / "checkpoint.pth")
    target = network()
    found = load_weights(target, tmp_path / "checkpoint.pth")
    assert found.told.startswith(f"{key} in checkpoint.pth (9 of 9 tensors matched")
    assert all(torch.equal(v, tensors()[name]) for name, v in target.state_dict().items())


def test_a_conversion_is_tried_on_each_state_dict(tmp_path):
    renamed = {f"old_{name}": value for name, value in tensors().items()}
    torch.save({"ema": {"decay": torch.ones(1)}, "model": renamed}, tmp_path / "c.pth")

    def convert(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name.removeprefix("old_"): value for name, value in given.items()}

    found = load_weights(network(), tmp_path / "c.pth", convert=convert)
    assert found.told == "model in c.pth (9 of 9 tensors matched)"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named(tmp_path, bad):
    state = tensors()
    state["1.running_var"][2] = bad
    with pytest.raises(ModelError, match=r"1\.running_var holds numbers that are not finite"):
        load_weights(network(), save(tmp_path / "w.safetensors", state))


def test_too_few_matches_are_refused_with_examples(tmp_path):
    state = {key.replace("0.", "stem."): value for key, value in tensors().items()}
    target = network()
    before = target[1].weight.clone()
    path = save(tmp_path / "w.safetensors", state)
    with pytest.raises(ModelError, match=r"7 of its 9 tensors are there") as caught:
        load_weights(target, path)
    assert str(path) in caught.value.message
    assert "missing are 0.weight, 0.bias" in caught.value.message
    assert "has instead is stem.bias, stem.weight" in caught.value.message
    assert "--allow-partial" in caught.value.hint
    assert torch.equal(target[1].weight, before)


def test_what_is_missing_or_not_used_is_said(tmp_path):
    target = nn.Sequential(*(nn.Linear(2, 2) for _ in range(10)))
    state = target.state_dict() | {"ema.decay": torch.ones(1)}
    del state["4.bias"]
    found = load_weights(target, save(tmp_path / "w.safetensors", state))
    assert (
        found.summary
        == str(found)
        == ("19 of 20 tensors matched; 1 missing, left random (4.bias); 1 not used (ema.decay)")
    )
    assert found.told == f"w.safetensors ({found})"
    (note,) = found.notes
    assert note == (
        "Only a part of the network is pre-trained: w.safetensors gives 19 of its 20 tensors; 1 "
        "start from random numbers (4.bias)."
    )


def test_files_without_step_counters_are_complete(tmp_path):
    state = {key: v for key, v in tensors().items() if "num_batches" not in key}
    found = load_weights(network(), save(tmp_path / "w.safetensors", state))
    assert found.summary == "8 of 9 tensors matched"
    assert found.notes == found.missing == ()


def test_half_precision_is_loaded_into_the_networks_own(tmp_path):
    state = {k: v.half() if v.is_floating_point() else v for k, v in tensors().items()}
    target = network()
    load_weights(target, save(tmp_path / "w.safetensors", state))
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, state["0.weight"].float())


@pytest.mark.parametrize("kind", ["int8", "float8_e4m3fn", "float4_e2m1fn_x2", "complex64"])
def test_numbers_of_another_kind_do_not_fit(kind):
    state = tensors() | {"3.weight": torch.empty(7, 4, dtype=getattr(torch, kind))}
    with pytest.raises(ModelError, match=rf"3\.weight holds {kind} and should hold float32"):
        match(tensors(), state, source="w")


def test_a_counter_may_be_any_whole_number_or_float(tmp_path):
    for kind in (torch.int32, torch.float32):
        state = tensors() | {"1.num_batches_tracked": torch.tensor(7, dtype=kind)}
        target = network()
        load_weights(target, save(tmp_path / "w.safetensors", state))
        assert target[1].num_batches_tracked == 7


def test_numbers_beyond_the_networks_type_are_not_finite(tmp_path):
    state = tensors() | {"3.bias": torch.full((7,), 1e300, dtype=torch.float64)}
    with pytest.raises(ModelError, match=r"3\.bias holds numbers that are not finite"):
        load_weights(network(), save(tmp_path / "w.safetensors", state))


# --- under a prefix --------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["backbone.", "model.encoder.", "module.model."])
def test_what_stands_before_every_name_is_taken_off(tmp_path, prefix):
    state = {f"{prefix}{key}": value for key, value in tensors().items()}
    more = {"head.fc.weight": torch.ones(2), "loss.weight": torch.ones(2)}
    target = network()
    found = load_weights(target, save(tmp_path / "w.safetensors", state | more), heads=["3"])
    assert (found.prefix, len(found.matched), found.missing) == (prefix, 7, ())
    assert found.unexpected == tuple(more)
    assert f"under {prefix}" in found.summary
    assert torch.equal(target[0].weight, tensors()["0.weight"])
    assert not torch.equal(target[3].weight, tensors()["3.weight"])


def test_names_that_fit_as_they_are_stay():
    own = tensors()
    found = compare(own, own | {f"teacher.{key}": -value for key, value in own.items()}, source="")
    assert found.prefix == ""
    assert found.values.keys() == own.keys()
    assert torch.equal(found.values["0.bias"], own["0.bias"])


@pytest.mark.parametrize("average", ["model_ema.", "teacher.backbone."])
def test_of_two_copies_the_average_is_taken(average):
    own = tensors()
    given = {f"student.{key}": -value for key, value in own.items()}
    given |= {f"{average}{key}": value for key, value in own.items()}
    found = match(own, given, source="w")
    assert found.prefix == average
    assert torch.equal(found.values["0.bias"], own["0.bias"])
    assert len(found.unexpected) == len(own)


def test_a_part_that_only_ends_like_the_network_is_no_prefix():
    """The names of a small network are found inside those of nearly every large one."""
    given = {f"layer.{key}": value for key, value in tensors().items() if key.startswith("0.")}
    assert compare(tensors(), given, source="").prefix == ""


# --- a part of the network -------------------------------------------------------------------


def part() -> dict[str, torch.Tensor]:
    state = {key: value for key, value in tensors().items() if key[0] in "03"}
    return state | {"3.weight": torch.ones(2, 4), "3.bias": torch.ones(2)}


def test_a_part_is_loaded_where_that_is_allowed(tmp_path):
    path, target = save(tmp_path / "w.safetensors", part()), network()
    before = target[3].weight.clone()
    with pytest.raises(ModelError, match=r"3\.weight has the shape \(2, 4\)") as caught:
        load_weights(target, path)
    assert "--allow-partial" in caught.value.hint
    found = load_weights(target, path, allow_partial=True)
    assert found.matched == ("0.weight", "0.bias")
    assert tuple(found.misshaped) == ("3.weight", "3.bias")
    assert found.missing == ("1.weight", "1.bias", "1.running_mean", "1.running_var")
    assert found.summary == (
        "2 of 9 tensors matched; 4 missing, left random (1.weight, 1.bias, 1.running_mean, …); "
        "2 of another shape, left random (3.weight, 3.bias)"
    )
    assert "gives 2 of its 9 tensors; 6 start from random numbers" in found.notes[0]
    assert torch.equal(target[0].weight, tensors()["0.weight"])
    assert torch.equal(target[3].weight, before)


def test_nothing_is_no_part():
    with pytest.raises(ModelError, match="0 of its 9 tensors are there") as caught:
        match(tensors(), {"other": torch.ones(1)}, source="w", allow_partial=True)
    assert "--allow-partial" not in caught.value.hint


def test_a_part_has_finite_numbers_too():
    bad = part() | {"0.bias": torch.full((4,), torch.nan)}
    with pytest.raises(ModelError, match=r"0\.bias holds numbers that are not finite"):
        match(tensors(), bad, source="w", allow_partial=True)


# --- converted -------------------------------------------------------------------------------


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.replace("stem.", "0."): value for key, value in state.items()}


def test_a_conversion_is_used_where_more_matches_after_it(tmp_path):
    state = {f"net.{key}".replace("net.0.", "net.stem."): v for key, v in tensors().items()}
    target, seen = network(), []

    def convert(given):
        seen.append(set(given))
        return renamed(given)

    found = load_weights(target, save(tmp_path / "w.safetensors", state), convert=convert)
    assert found.summary == "9 of 9 tensors matched"
    assert torch.equal(target[0].weight, tensors()["0.weight"])
    assert seen == [{key.removeprefix("net.") for key in state}]


@pytest.mark.parametrize("convert", [lambda given: None, lambda given: {}])
def test_a_conversion_that_helps_nothing_is_not_used(tmp_path, convert):
    state = {key: value for key, value in tensors().items() if key != "3.bias"}
    path = save(tmp_path / "w.safetensors", state)
    found = load_weights(network(), path, allow_partial=True, convert=convert)
    assert (len(found.matched), found.missing) == (8, ("3.bias",))


def test_a_file_that_fits_is_not_converted(tmp_path):
    path = save(tmp_path / "w.safetensors", tensors())
    assert len(load_weights(network(), path, convert=lambda given: 1 / 0).matched) == 9


# --- names and real files --------------------------------------------------------------------


def test_a_file_called_as_in_every_folder_is_named_with_its_folders(tmp_path):
    folder = tmp_path / "runs" / "photos-0" / "model"
    folder.mkdir(parents=True)
    path = save(folder / "model.safetensors", tensors())
    assert load_weights(network(), path).source == "photos-0/model/model.safetensors"
    away = Path(os.path.relpath(path))
    assert load_weights(network(), away).source == "photos-0/model/model.safetensors"


def test_a_real_network_of_another_kind_is_refused():
    """A CIFAR ResNet-20 has the names of a ResNet-18's, in other shapes."""
    path = SHARED / "resnet20_cifar10/resnet20-12fca82f.th"
    if not path.exists():
        pytest.skip("the shared weights are not here")
    import timm

    with pytest.raises(ModelError, match=r"conv1\.weight has the shape \(16, 3, 3, 3\)") as caught:
        load_weights(timm.create_model("resnet18"), path, ["fc"])
    assert str(path) in caught.value.message
