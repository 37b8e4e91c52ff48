from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from headstart.backbones import zoo
from headstart.backbones.from_keras import new_model
from headstart.backbones.keras_backend import building, load_keras
from headstart.backbones.keras_h5 import Layer
from headstart.backbones.keras_weights import _by_name, load_keras_file, rescale_like_imagenet
from headstart.errors import ModelError
from keras_files import classic
from networks import shake

pytestmark = pytest.mark.slow

NAME, SIZE = "MobileNetV3Small", 64
WEIGHTS = Path(__file__).parents[2] / "../shared/weights"


@pytest.fixture(scope="module")
def backbone():
    """A network with all its numbers at random. Not to be written to."""
    made = zoo.create(f"keras:{NAME}", size=SIZE, random=0)
    shake(made.network)
    return made


@pytest.fixture(scope="module")
def model(backbone):
    """Keras's own model with the same numbers, and a classifier behind it, as users make one."""
    from headstart.backbones.keras_blocks import to_steps

    keras = load_keras("a test")
    trunk = new_model(NAME, backbone.input_spec)
    own = backbone.network.state_dict()
    for step in to_steps(trunk):
        step.module.load_state_dict(
            {n.rpartition(".")[2]: v for n, v in own.items() if n.rpartition(".")[0] == step.name}
        )
        step.module.store()
    with building(keras):
        return keras.Sequential([keras.Input((SIZE, SIZE, 3)), trunk, keras.layers.Dense(3)])


@pytest.fixture
def fresh():
    """A network with other numbers."""
    return zoo.create(f"keras:{NAME}", size=SIZE, random=5).network


def loaded(network, path, **options):
    return load_keras_file(network, path, **options)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Keras's own
@pytest.mark.parametrize("part", ["whole", "trunk"])
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_what_keras_3_saves_is_loaded_whole(model, backbone, fresh, tmp_path, part, suffix):
    path = tmp_path / f"x{suffix}"
    saved = model if part == "whole" else model.layers[0]
    if suffix == ".h5":
        saved.save(path)
    else:
        saved.save_weights(path)
    found = loaded(fresh, path)
    assert len(found.matched) == found.total == len(fresh.state_dict())
    assert len(found.unexpected) == (2 if part == "whole" else 0)
    own = backbone.network.state_dict()
    assert all(torch.equal(own[name], value) for name, value in fresh.state_dict().items())


def arrays(network) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, value in network.state_dict().items():
        layer, _, variable = name.rpartition(".")
        found.setdefault(layer, {})[f"{layer}/{variable}"] = value.numpy()
    return found


@pytest.mark.parametrize("top", ["", "model_weights"])
def test_what_keras_2_saved_is_loaded_by_the_names_of_its_layers(backbone, fresh, tmp_path, top):
    layers = arrays(backbone.network)
    old = {
        layer: {key.replace("depthwise/kernel", "depthwise/depthwise_kernel"): value}
        if layer.endswith("depthwise")
        else each
        for layer, each in layers.items()
        for key, value in [next(iter(each.items()))]
    }
    path = classic(tmp_path / "x.h5", {"input_1": {}, **old}, top)
    assert loaded(fresh, path).summary == "206 of 206 tensors matched"
    own = backbone.network.state_dict()
    assert all(torch.equal(own[name], value) for name, value in fresh.state_dict().items())


def test_names_of_another_making_are_paired_in_order(backbone, fresh, tmp_path):
    layers = {
        f"expanded/{number}": {
            f"thing{number}/{index}x": v for index, v in enumerate(each.values())
        }
        for number, each in enumerate(arrays(backbone.network).values())
    }
    loaded(fresh, classic(tmp_path / "x.h5", layers))
    own = backbone.network.state_dict()
    assert all(torch.equal(own[name], value) for name, value in fresh.state_dict().items())


def test_a_published_file_is_paired_in_order_whatever_its_names_say(backbone, fresh, tmp_path):
    named = list(arrays(backbone.network).items())
    same = [at for at, (name, _) in enumerate(named) if name.endswith("expand")][1:3]
    before = [value for _, value in named[same[0]][1].items()]
    names = [name for name, _ in named]
    names[same[0]], names[same[1]] = "expanded_conv_99_expand", names[same[0]]
    layers = {n: each for n, (_, each) in zip(names, named, strict=True)}
    loaded(fresh, classic(tmp_path / "x.h5", layers), published=True)
    own = fresh.state_dict()
    assert torch.equal(own[f"{named[same[0]][0]}.kernel"], torch.from_numpy(before[0]))


def test_numbers_of_another_byte_order_are_read(tmp_path):
    network = torch.nn.Module()
    network.a = torch.nn.ParameterDict({"kernel": torch.zeros(3)})
    path = classic(tmp_path / "x.h5", {"a": {"a/kernel": np.array([1, 2, 3], ">f4")}})
    loaded(network, path)
    assert network.a["kernel"].tolist() == [1, 2, 3]


def test_layers_without_names_are_paired_by_their_rank(tmp_path):
    own = {"conv2d.kernel": torch.zeros(1), "conv2d_1.kernel": torch.zeros(1)}
    layers = [
        Layer(("conv2d_12",), (("kernel", np.array([2.0])),)),
        Layer(("conv2d_9",), (("kernel", np.array([1.0])),)),
    ]
    named = _by_name(layers, own, "")
    assert {name: value.item() for name, value in named.items()} == {
        "conv2d.kernel": 1.0,
        "conv2d_1.kernel": 2.0,
    }


def test_a_file_of_another_network_is_an_error(fresh, tmp_path):
    path = classic(tmp_path / "x.h5", {"conv1": {"conv1/kernel": np.zeros((3, 3, 3, 8), "f4")}})
    with pytest.raises(ModelError, match="does not fit this network: 0 of its"):
        loaded(fresh, path)


def test_a_part_is_enough_where_that_is_asked_for(backbone, fresh, tmp_path):
    half = dict(list(arrays(backbone.network).items())[:20])
    path = classic(tmp_path / "x.h5", half)
    with pytest.raises(ModelError, match="does not fit"):
        loaded(fresh, path)
    found = loaded(fresh, path, allow_partial=True)
    assert len(found.matched) == sum(len(each) for each in half.values())
    assert "missing, left random" in str(found)


def test_efficientnets_published_normalisation_is_folded_in(tmp_path):
    network = zoo.create("keras:EfficientNetB0", size=32, random=0).network
    assert (network.state_dict()["normalization.variance"] == 1).all()
    rescale_like_imagenet(network)
    expected = torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(network.state_dict()["normalization.variance"], expected)
    layers = arrays(network) | {"rescaling": {}, "rescaling_1": {}}
    layers["normalization"]["normalization/variance"] = np.full(3, 4.0, "f4")
    loaded(network, classic(tmp_path / "x.h5", layers))
    torch.testing.assert_close(network.state_dict()["normalization.variance"], 4 * expected)


def test_the_file_that_keras_downloads_is_known_by_its_name(tmp_path):
    network = zoo.create("keras:EfficientNetB0", size=32, random=0).network
    for name, expected in (("efficientnetb0_notop.h5", 0.229), ("mine.h5", 1.0)):
        path = classic(tmp_path / name, arrays(network))
        made = zoo.create("keras:EfficientNetB0", size=32, weights=path).network
        assert made.state_dict()["normalization.variance"][0].item() == pytest.approx(expected)


def test_other_networks_have_nothing_to_fold(backbone):
    before = backbone.digest()
    rescale_like_imagenet(backbone.network)
    assert backbone.digest() == before


# Real files


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the shared weights are not here")
def test_a_users_whole_model_gives_its_trunk_and_the_answers_keras_gives():
    path = WEIGHTS / "mobilenetv2_dogs_keras" / "dog_breed_mobilenetv2.h5"
    backbone = zoo.create("keras:MobileNetV2", weights=path, size=160)
    assert backbone.weights.startswith(f"{path.name} (260 of 260 tensors matched; 2 not used")
    trunk = new_model("MobileNetV2", backbone.input_spec)
    with h5py.File(path) as file:
        group = file["model_weights/mobilenetv2_1.00_160"]
        for variable in trunk.weights:
            layer, name = variable.path.split("/")[-2:]
            variable.assign(group[f"{layer}/{name}"][()])
    x = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), load_keras("a test").device("cpu"):
        theirs = trunk(x.permute(0, 2, 3, 1), training=False)
        assert torch.equal(backbone.chain()(x), theirs)


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the shared weights are not here")
def test_a_network_that_keras_does_not_have_is_an_error():
    path = WEIGHTS / "squeezenet1_1" / "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
    with pytest.raises(ModelError, match="0 of its 260 tensors are there"):
        zoo.create("keras:MobileNetV2", weights=path, size=96)
