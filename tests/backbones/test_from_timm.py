from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file

from headstart.backbones import from_timm, hub, zoo
from headstart.data.transforms import normalise, resize
from headstart.errors import (
    MissingWeights,
    ModelError,
    UnknownName,
    UnsafeFile,
    UsageError,
)
from networks import images, shake, untrained

SHARED = Path(__file__).parents[2] / "../shared"
MOBILENET = SHARED / "weights/mobilenet_v2/mobilenetv2_100_timm.safetensors"
PHOTOS = SHARED / "datasets/sanity_photos"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches, and not a single socket."""

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(socket, "socket", refuse)
    return tmp_path


def full_state(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a network of timm's with its classifier, all at random."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = timm.create_model(name)
    shake(network, seed=7)
    return network.state_dict()


def cache(folder: Path, repository: str, state: dict[str, torch.Tensor]) -> Path:
    repository = folder / "hub" / f"models--{repository}"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    save_file(state, snapshot / "model.safetensors")
    return snapshot / "model.safetensors"


# --- the zoo's own weights -------------------------------------------------------------------


def test_cached_weights_are_loaded_without_a_socket(caches, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    state = full_state("test_resnet")
    cache(caches, "timm--test_resnet.r160_in1k", state)
    backbone = zoo.create("timm:test_resnet")
    assert backbone.full_name == "timm:test_resnet.r160_in1k"
    assert backbone.weights == "test_resnet.r160_in1k, from the cache"
    assert backbone.licence == "apache-2.0"
    assert backbone.classifier == "fc"
    own = backbone.network.state_dict()
    assert set(state) - set(own) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, state[key]) for key, value in own.items())
    assert "state_dict" not in backbone.network.pretrained_cfg
    assert zoo.create("timm:test_resnet.r160_in1k").digest() == backbone.digest()


def test_what_is_downloaded_is_read_as_it_is_from_the_cache(caches, monkeypatch):
    """timm downloads; the numbers come from the file that it left, in this run and the next."""
    state = full_state("test_resnet")
    build = from_timm.new_network
    asked = []

    def new_network(architecture, **arguments):
        if not asked:
            asked.append(arguments)
            cache(caches, "timm--test_resnet.r160_in1k", state)
            return build(architecture)
        return build(architecture, **arguments)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_reach", lambda address: None)
    monkeypatch.setattr(from_timm, "new_network", new_network)
    first = zoo.create("timm:test_resnet")
    assert asked == [{"pretrained": True, "pretrained_cfg": "r160_in1k"}]
    assert first.weights == "test_resnet.r160_in1k, downloaded"
    own = first.network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in own.items())
    assert zoo.create("timm:test_resnet").digest() == first.digest()


def test_a_download_that_only_timm_reads_is_taken_as_timm_reads_it(caches, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_reach", lambda address: None)
    build = from_timm.new_network
    monkeypatch.setattr(from_timm, "new_network", lambda architecture, **_: build(architecture))
    backbone = zoo.create("timm:test_resnet")  # nothing was left in a cache
    assert backbone.weights == "test_resnet.r160_in1k, downloaded"


def test_another_file_under_a_cached_name_is_refused(caches):
    """legacy_seresnet18 has no Hugging Face copy; the name of its file holds its SHA-256."""
    file = caches / "torch" / "checkpoints" / "seresnet18-4bb0ce65.pth"
    file.parent.mkdir(parents=True)
    torch.save(full_state("legacy_seresnet18"), file)
    with pytest.raises(ModelError, match=r"seresnet18-4bb0ce65\.pth is not what its name says"):
        zoo.create("timm:legacy_seresnet18")


def test_positions_are_resampled_for_another_size(caches):
    cache(caches, "timm--test_vit.r160_in1k", full_state("test_vit"))
    backbone = zoo.create("timm:test_vit", size=96)
    assert backbone.architecture["arguments"] == {"img_size": [96, 96]}
    assert backbone.chain()(images(backbone)).shape == (3, 64)
    assert zoo.rebuild(backbone.architecture, backbone.input_spec).feature_dim == 64


def test_weights_that_are_not_there_are_named_at_once(caches):
    with pytest.raises(MissingWeights, match=r"timm:resnet50\.a1_in1k") as caught:
        zoo.create("timm:resnet50")
    assert caught.value.exit_code == 6
    assert str(caches / "hub") in caught.value.message
    assert "hf download timm/resnet50.a1_in1k" in caught.value.hint


def test_a_damaged_cache_is_named(caches):
    file = cache(caches, "timm--test_resnet.r160_in1k", full_state("test_resnet"))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        zoo.create("timm:test_resnet")


def test_cached_weights_of_another_network_are_refused(caches):
    cache(caches, "timm--test_resnet.r160_in1k", full_state("test_efficientnet"))
    with pytest.raises(ModelError, match=r"does not fit timm:test_resnet\.r160_in1k"):
        zoo.create("timm:test_resnet")


@pytest.mark.parametrize(
    "name",
    [
        "convnextv2_atto.fcmae_ft_in1k",
        "regnety_320.seer",
        "vit_base_mci_224.apple_mclip",
    ],
)
def test_licences_that_forbid_commercial_use_must_be_accepted(name):
    with pytest.raises(UsageError, match="forbids commercial use") as caught:
        zoo.create(f"timm:{name}")
    assert "--allow-noncommercial" in caught.value.hint
    with pytest.raises(MissingWeights):
        zoo.create(f"timm:{name}", allow_noncommercial=True)


def test_unknown_tags_are_told_the_known_ones():
    with pytest.raises(UnknownName, match=r"timm:test_resnet named 'r999'") as caught:
        zoo.create("timm:test_resnet.r999")
    assert "r160_in1k" in caught.value.hint


def test_networks_timm_has_no_weights_for_say_so():
    with pytest.raises(MissingWeights, match="no pre-trained weights for timm:resnet20"):
        zoo.create("timm:resnet200")


def test_random_weights_need_no_cache_and_no_licence():
    name = "timm:convnextv2_atto.fcmae_ft_in1k"  # its weights forbid commercial use
    backbone = zoo.create(name, size=64, random=0)
    assert backbone.full_name == name
    assert backbone.licence is None
    assert (backbone.input_spec.height, backbone.input_spec.width) == (64, 64)
    assert zoo.rebuild(backbone.architecture, backbone.input_spec).blocks[0].name == "stem"


# --- a user's weights ------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "mine" / "tiny.safetensors"
    path.parent.mkdir()
    save_file(full_state("test_resnet"), path)
    return path


def test_a_users_file_is_loaded_and_its_preprocessing_assumed(weights):
    backbone = zoo.create("timm:test_resnet", weights=weights)
    assert backbone.full_name == "timm:test_resnet"
    assert backbone.licence is None
    count = len(full_state("test_resnet")) - 2
    assert backbone.weights == f"tiny.safetensors ({count} of {count} tensors matched)"
    assert "assumed" in backbone.notes[0]
    expected = full_state("test_resnet")["conv1.0.weight"]
    assert torch.equal(backbone.network.state_dict()["conv1.0.weight"], expected)


def test_a_file_without_a_head_or_with_another_is_as_good(weights):
    state = full_state("test_resnet")
    whole = zoo.create("timm:test_resnet", weights=weights).digest()
    del state["fc.bias"]
    state["fc.weight"] = torch.ones(3, state["fc.weight"].shape[1])
    save_file(state, weights)
    assert zoo.create("timm:test_resnet", weights=weights).digest() == whole


def test_the_preprocessing_beside_the_file_is_used(weights):
    config = {
        "architecture": "test_resnet",
        "pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1], "input_size": [3, 64, 64]},
    }
    weights.with_name("config.json").write_text(json.dumps(config))
    spec = zoo.create("timm:test_resnet", weights=weights).input_spec
    assert (spec.height, spec.mean, spec.std) == (64, (0, 0, 0), (255, 255, 255))
    given = zoo.create("timm:test_resnet", weights=weights, mean=[0.5], std=[0.5]).input_spec
    assert (given.height, given.mean) == (64, (127.5, 127.5, 127.5))


def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(ModelError, match="does not fit this network"):
        zoo.create("timm:resnet18", weights=weights)


def test_an_unsafe_file_is_refused(weights):
    weights.write_bytes(b"\x80\x04N.")
    with pytest.raises(UnsafeFile):
        zoo.create("timm:test_resnet", weights=weights)


def test_a_size_the_network_can_t_take_is_the_users_error(weights):
    with pytest.raises(UsageError, match="1 x 1 pixels") as caught:
        zoo.create("timm:inception_v3", weights=_inception(weights), size=1)
    assert caught.value.field == "size"


def _inception(weights: Path) -> Path:
    save_file(full_state("inception_v3"), weights)
    return weights


def test_classifiers_that_are_several_or_no_linear_layer_have_no_name():
    assert untrained("test_resnet").classifier == "fc"
    assert untrained("test_convnext", 64).classifier == "head.fc"
    assert untrained("dla46_c", 64).classifier is None  # a convolution
    assert untrained("levit_128s").classifier is None  # two, of a distilled network


def test_real_weights_name_the_photos():
    """mobilenetv2_100 with a user's file; its rebuilt weights get these right in any padding."""
    if not (MOBILENET.exists() and PHOTOS.is_dir()):
        pytest.skip("the shared weights and photos are not here")
    from safetensors.torch import load_file

    backbone = zoo.create("timm:mobilenetv2_100", weights=MOBILENET)
    assert "312 of 312 tensors matched" in backbone.weights
    head = load_file(MOBILENET)
    classes = {"bird": 19, "cat_720p": 285, "dragonfly": 319, "parrot": 88, "hot_dog": 934}
    spec = backbone.input_spec
    pictures = [Image.open(PHOTOS / f"{name}.jpg").convert("RGB") for name in classes]
    pixels = torch.stack([torch.from_numpy(normalise(resize(p, spec), spec)) for p in pictures])
    with torch.no_grad():
        features = backbone.chain()(pixels)
    found = (features @ head["classifier.weight"].T + head["classifier.bias"]).argmax(1)
    assert dict(zip(classes, found.tolist(), strict=True)) == classes
