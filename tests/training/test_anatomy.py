"""What is read off networks of any origin."""

from __future__ import annotations

import pytest
import timm
import torchvision
from torch import nn

from headstart.training.anatomy import drops, head_of, is_batch_norm, is_pretrained, named
from networks import shake


class Wrapped(nn.Module):
    """As people write it: a backbone and a head."""

    def __init__(self, first: str = "backbone") -> None:
        super().__init__()
        parts = {"backbone": timm.create_model("test_resnet", num_classes=0)}
        parts["head"] = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
        for name in sorted(parts, reverse=first != "backbone"):
            self.add_module(name, parts[name])


def names(model: nn.Module) -> set[str]:
    head = head_of(model)
    return {name for name, value in model.named_parameters() if id(value) in head}


@pytest.mark.parametrize(
    ("make", "prefix"),
    [
        (lambda: timm.create_model("test_resnet"), "fc."),
        (lambda: timm.create_model("test_vit"), "head."),
        (lambda: timm.create_model("test_convnext"), "head.fc."),
        (lambda: torchvision.models.resnet18(), "fc."),
        (lambda: torchvision.models.mobilenet_v3_small(), "classifier."),
        (lambda: torchvision.models.squeezenet1_1(), "classifier."),
        (lambda: Wrapped(), "head."),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)), "2."),
        (lambda: nn.Sequential(torchvision.models.resnet18()), "0.fc."),
    ],
)
def test_the_head_of_a_network(make, prefix):
    model = make()
    assert names(model) == {n for n, _ in model.named_parameters() if n.startswith(prefix)} != set()


def test_several_new_layers_behind_a_backbone_are_the_head():
    model = nn.Sequential(timm.create_model("test_resnet", num_classes=0))
    model.append(nn.Linear(96, 8)).append(nn.ReLU()).append(nn.Linear(8, 3))
    assert names(model) == {"1.weight", "1.bias", "3.weight", "3.bias"}


def test_a_head_before_its_backbone_is_found_by_its_last_linear_layer():
    model = Wrapped(first="head")
    assert next(iter(dict(model.named_children()))) == "head"
    assert names(model) == {"head.2.weight", "head.2.bias"}


def test_a_network_without_a_head_has_none_and_a_lone_layer_is_one():
    assert names(timm.create_model("test_resnet", num_classes=0)) == set()
    assert names(nn.Sequential(nn.BatchNorm2d(3))) == set()
    assert names(nn.Linear(3, 2)) == {"weight", "bias"}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_fresh_weights_are_told_from_trained_ones(name):
    network = timm.create_model(name)
    assert is_pretrained(network) is False
    shake(network)
    assert is_pretrained(network) is True


def test_nothing_tells_where_there_is_no_norm():
    assert is_pretrained(nn.Linear(3, 2)) is None
    assert is_pretrained(torchvision.models.squeezenet1_1()) is None


def test_names_are_cut_after_a_few():
    assert named(["a", "b"]) == "a, b"
    assert named(["", "b", "c", "d", "e"]) == "the network itself, b, c and 2 more"


def test_what_drops_and_what_keeps_statistics():
    assert drops(nn.Dropout(0.1))
    assert not drops(nn.Dropout(0.0))
    assert not drops(nn.ReLU())
    assert drops(timm.layers.DropPath(0.1))
    assert not drops(timm.layers.DropPath(0.0))
    assert drops(torchvision.ops.StochasticDepth(0.1, "row"))
    assert is_batch_norm(nn.BatchNorm1d(2))
    assert is_batch_norm(nn.SyncBatchNorm(2))
    assert not is_batch_norm(torchvision.ops.FrozenBatchNorm2d(2))
    assert not is_batch_norm(nn.LayerNorm(2))


def test_keras_batch_norms_are_told_by_their_name():
    assert is_batch_norm(type("BatchNormalization", (nn.Module,), {})())
