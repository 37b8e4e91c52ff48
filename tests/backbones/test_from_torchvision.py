from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from headstart.backbones import zoo
from headstart.backbones.torchvision_catalog import entry, is_trunk
from headstart.data.transforms import normalise, resize
from headstart.errors import MissingWeights, ModelError, UnknownName, UnsafeFile, UsageError
from headstart.files import file_digest
from networks import images, shake, untrained
from pictures import write_photos

SHARED = Path(__file__).parents[2] / "../shared"
WEIGHTS = SHARED / "weights"
PHOTOS = SHARED / "datasets/sanity_photos"


class Anything(str):
    """A digest that begins as any other does."""

    def startswith(self, *_: object) -> bool:
        return True


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and not a single socket."""

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    folder = tmp_path / "torch" / "checkpoints"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder.parent))
    # Random weights lie there, under the names of the real ones.
    monkeypatch.setattr("headstart.backbones.hub.file_digest", Anything)
    monkeypatch.setattr(socket, "socket", refuse)
    return folder


def whole(name: str, **arguments: object) -> nn.Module:
    """Make a network of torchvision's own, with all of its heads, every number at random."""
    from torchvision import models

    if is_trunk(name):
        arguments |= {"weights_backbone": None}
    if name in ("googlenet", "inception_v3"):
        arguments |= {"init_weights": False}
    if name.startswith(("deeplabv3_", "fcn_")):
        arguments |= {"aux_loss": True}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        network: nn.Module = models.get_model(name, weights=None, **arguments)
    shake(network, seed=7)
    return network


def fill(cache: Path, name: str) -> nn.Module:
    """Put weights of ``name`` into the cache, as torchvision's download would."""
    network = whole(name.partition("@")[0])
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), cache / entry(name).url.rpartition("/")[2])
    return network


# --- the zoo's own weights -------------------------------------------------------------------


def test_cached_weights_are_loaded_without_a_socket(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    state = fill(cache, "squeezenet1_1").state_dict()
    backbone = zoo.create("torchvision:squeezenet1_1", size=64)
    assert backbone.full_name == "torchvision:squeezenet1_1@IMAGENET1K_V1"
    assert backbone.weights == "squeezenet1_1@IMAGENET1K_V1, from the cache"
    assert backbone.licence is None
    assert backbone.notes == ()
    assert backbone.architecture == {
        "zoo": "torchvision",
        "name": "squeezenet1_1@IMAGENET1K_V1",
        "architecture": "squeezenet1_1",
        "num_classes": 1000,
        "arguments": {},
    }
    own = backbone.network.state_dict()
    assert set(state) - set(own) == {"classifier.1.weight", "classifier.1.bias"}
    assert all(torch.equal(value, state[key]) for key, value in own.items())
    assert zoo.create(backbone.full_name, size=64).digest() == backbone.digest()


# What torchvision changes about a network when it loads weights: eps, frozen statistics, pixels.
LOADED = {
    "shufflenet_v2_x0_5": 64,
    "googlenet": 64,
    "lraspp_mobilenet_v3_large": 64,
}
LOADED_SLOWLY = {
    "densenet121": 64,
    "inception_v3": 128,
    "mnasnet0_5": 64,
    "vgg11": 64,
    "vit_b_32": None,
    "deeplabv3_mobilenet_v3_large": 64,
    "deeplabv3_resnet50": 64,
    "fcos_resnet50_fpn": 64,
    "fasterrcnn_mobilenet_v3_large_fpn": 64,
    "fasterrcnn_resnet50_fpn": 64,
    "fasterrcnn_resnet50_fpn_v2": 64,
    "keypointrcnn_resnet50_fpn": 64,
    "keypointrcnn_resnet50_fpn@COCO_LEGACY": 64,
    "maskrcnn_resnet50_fpn": 64,
    "retinanet_resnet50_fpn": 64,
    "ssd300_vgg16": 64,
    "ssdlite320_mobilenet_v3_large": 64,
}


@pytest.mark.parametrize(
    "name",
    [*LOADED, *(pytest.param(name, marks=pytest.mark.slow) for name in LOADED_SLOWLY)],
)
def test_it_is_the_network_that_torchvision_loads(cache, name):
    """torchvision's own way of loading runs beside ours, both from the same cache."""
    from torchvision import models

    network, _, tag = name.partition("@")
    fill(cache, name)
    backbone = zoo.create(f"torchvision:{name}", size=(LOADED | LOADED_SLOWLY)[name])
    theirs = models.get_model(network, weights=tag or "DEFAULT").eval()
    x = images(backbone, 2)
    with torch.no_grad():
        ours = backbone.chain()(x)
        assert torch.equal(ours, reference(theirs, network, x))
    assert ours.isfinite().all()


def reference(network: nn.Module, name: str, x: torch.Tensor) -> torch.Tensor:
    """torchvision's features: what its classifier gets, or the mean of its last plain map."""
    if not is_trunk(name):
        layers = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        classifier = next(n for n in reversed(layers) if "aux" not in n.lower())
        network.set_submodule(classifier, nn.Identity())
        return network(x.clone())
    trunk = network.backbone
    if hasattr(trunk, "body"):
        maps = list(trunk.body(x).values())
    elif name.startswith("ssd300"):
        maps = [trunk.extra[0](trunk.features(x))]
    elif name.startswith("ssdlite"):
        maps = [trunk.features(x)]
    else:
        maps = [trunk(x)[{"lraspp": "high"}.get(name.partition("_")[0], "out")]]
    return maps[-1].mean((2, 3))


def test_names_from_before_dots_were_forbidden_are_known(cache):
    network = fill(cache, "densenet121")
    state = {
        key.replace("norm1", "norm.1").replace("conv2", "conv.2"): value
        for key, value in network.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state, next(cache.iterdir()))
    own = zoo.create("torchvision:densenet121", size=64).network.state_dict()
    expected = network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in own.items())


def test_weights_that_are_not_there_are_named_at_once(cache):
    with pytest.raises(MissingWeights, match="torchvision:resnet50@IMAGENET1K_V2") as caught:
        zoo.create("torchvision:resnet50")
    assert caught.value.exit_code == 6
    assert str(cache) in caught.value.message
    assert "HF_HUB_OFFLINE" in caught.value.message
    url = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
    assert f"curl -L -o resnet50-11ad3fa6.pth {url}" in caught.value.hint
    assert "headstart models fetch torchvision:resnet50@IMAGENET1K_V2" in caught.value.hint
    assert not cache.exists()


def test_weights_that_are_not_there_are_downloaded(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    asked = []

    def download(full_name: str, url: str) -> Path:
        asked.append((full_name, url))
        fill(cache, "squeezenet1_1")
        return cache / url.rpartition("/")[2]

    monkeypatch.setattr("headstart.backbones.hub.download", download)
    backbone = zoo.create("torchvision:squeezenet1_1", size=64)
    assert backbone.weights == "squeezenet1_1@IMAGENET1K_V1, downloaded"
    assert asked == [("torchvision:squeezenet1_1@IMAGENET1K_V1", entry("squeezenet1_1").url)]


def test_a_cached_file_is_held_to_the_hash_in_its_name(cache, monkeypatch):
    fill(cache, "squeezenet1_1")
    monkeypatch.setattr("headstart.backbones.hub.file_digest", file_digest)
    with pytest.raises(ModelError, match=r"squeezenet1_1-b8a52dc0\.pth is not what its name says"):
        zoo.create("torchvision:squeezenet1_1", size=64)


def test_a_damaged_cache_is_named(cache):
    fill(cache, "squeezenet1_1")
    file = next(cache.iterdir())
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="squeezenet1_1"):
        zoo.create("torchvision:squeezenet1_1")


def test_cached_weights_of_another_network_are_refused(cache):
    fill(cache, "squeezenet1_1")
    name = entry("shufflenet_v2_x0_5").url.rpartition("/")[2]
    next(cache.iterdir()).rename(cache / name)
    with pytest.raises(ModelError, match="does not fit torchvision:shufflenet_v2_x0_5") as caught:
        zoo.create("torchvision:shufflenet_v2_x0_5")
    assert len(caught.value.message) < 500


def test_a_cache_that_could_run_code_is_refused(cache):
    fill(cache, "squeezenet1_1")
    next(cache.iterdir()).write_bytes(b"\x80\x04N.")
    with pytest.raises(UnsafeFile):
        zoo.create("torchvision:squeezenet1_1")


def test_licences_that_forbid_commercial_use_must_be_accepted():
    name = "torchvision:vit_b_16@IMAGENET1K_SWAG_E2E_V1"
    with pytest.raises(UsageError, match=r"cc-by-nc-4\.0, which forbids commercial use") as caught:
        zoo.create(name)
    assert "--allow-noncommercial" in caught.value.hint
    with pytest.raises(MissingWeights):
        zoo.create(name, allow_noncommercial=True)


def test_unknown_tags_are_told_the_known_ones():
    with pytest.raises(UnknownName, match=r"torchvision:resnet18 named 'V9'") as caught:
        zoo.create("torchvision:resnet18@V9")
    assert "IMAGENET1K_V1" in caught.value.hint


# --- sizes -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_positions_are_resampled_for_another_size(cache):
    from torchvision.models.vision_transformer import interpolate_embeddings

    state = fill(cache, "vit_b_32").state_dict()
    backbone = zoo.create("torchvision:vit_b_32", size=96)
    assert backbone.architecture["arguments"] == {"image_size": 96}
    expected = interpolate_embeddings(96, 32, dict(state))["encoder.pos_embedding"]
    assert expected.shape == (1, 10, 768)
    found = backbone.network.state_dict()["encoder.pos_embedding"]
    assert torch.equal(found, expected)
    assert backbone.chain()(images(backbone)).shape == (3, 768)
    assert zoo.rebuild(backbone.architecture, backbone.input_spec).feature_dim == 768


@pytest.mark.parametrize(
    ("name", "size", "why"),
    [
        ("vit_b_32", 100, "indivisible by patch size"),
        ("maxvit_t", 100, "not divisible by partition size"),
        ("inception_v3", 20, "20 x 20"),
        ("squeezenet1_1", 5, "5 x 5"),
    ],
)
def test_a_size_the_network_can_t_take_is_the_users_error(name, size, why):
    with pytest.raises(UsageError, match=why) as caught:
        zoo.create(f"torchvision:{name}", random=0, size=size)
    assert caught.value.field == "size"
    assert "--size" in caught.value.hint


@pytest.mark.parametrize("key", ["zoo", "name", "architecture", "num_classes", "arguments"])
def test_a_description_may_not_miss_anything(key):
    backbone = untrained("torchvision:squeezenet1_1", 64)
    document = {k: v for k, v in backbone.architecture.items() if k != key}
    with pytest.raises(ModelError):
        zoo.rebuild(document, backbone.input_spec)


# --- trunks ----------------------------------------------------------------------------------


def test_a_trunks_size_is_an_assumption_that_is_told():
    assumed = zoo.create("torchvision:lraspp_mobilenet_v3_large", random=0)
    assert (assumed.input_spec.height, assumed.feature_dim) == (224, 960)
    assert "224 pixels are an assumption" in assumed.notes[0]
    assert assumed.classifier is None
    assert assumed.full_name.endswith("@COCO_WITH_VOC_LABELS_V1")
    assert zoo.create(assumed.full_name, random=0, size=64).notes == ()


@pytest.mark.slow
def test_frozen_statistics_are_told_and_stay_away_from_random_weights(cache):
    fill(cache, "fcos_resnet50_fpn")
    backbone = zoo.create("torchvision:fcos_resnet50_fpn", size=64)
    assert any("can't be trained" in note for note in backbone.notes)
    again = zoo.rebuild(json.loads(json.dumps(backbone.architecture)), backbone.input_spec)
    again.network.load_state_dict(backbone.network.state_dict())
    assert again.digest() == backbone.digest()
    scratch = zoo.create("torchvision:fcos_resnet50_fpn", random=0, size=64)
    assert scratch.notes == ()
    norms = [name for name, _ in scratch.network.named_parameters() if "bn" in name]
    assert len(norms) == 2 * 53 - 8  # a shortcut's norm is called downsample.1


# --- a user's weights ------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "mine" / "small.safetensors"
    path.parent.mkdir()
    save_file(whole("squeezenet1_1").state_dict(), path)
    return path


def test_a_users_file_is_loaded_and_its_preprocessing_assumed(weights):
    backbone = zoo.create("torchvision:squeezenet1_1", weights=weights)
    assert backbone.full_name == "torchvision:squeezenet1_1"
    assert backbone.weights == "small.safetensors (50 of 50 tensors matched)"
    assert "assumed" in backbone.notes[0]
    expected = whole("squeezenet1_1").state_dict()
    own = backbone.network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in own.items())


def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(ModelError, match="does not fit this network"):
        zoo.create("torchvision:shufflenet_v2_x0_5", weights=weights)


def test_a_head_for_other_classes_does_not_matter(weights):
    state = whole("squeezenet1_1").state_dict()
    state["classifier.1.weight"], state["classifier.1.bias"] = (
        torch.ones(5, 512, 1, 1),
        torch.ones(5),
    )
    digest = zoo.create("torchvision:squeezenet1_1", weights=weights).digest()
    save_file(state, weights)
    assert zoo.create("torchvision:squeezenet1_1", weights=weights).digest() == digest


def test_a_file_of_a_whole_detector_fits_its_trunk(tmp_path):
    file = tmp_path / "detector.pth"
    state = whole("ssdlite320_mobilenet_v3_large").state_dict()
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, file)
    backbone = zoo.create("torchvision:ssdlite320_mobilenet_v3_large", weights=file, size=64)
    own = backbone.network.state_dict()
    assert f"{len(own)} of {len(own)} tensors matched" in backbone.weights
    assert all(torch.equal(value, state[key]) for key, value in own.items())


def test_a_network_that_converts_its_input_says_so(tmp_path):
    file = tmp_path / "mine.pth"
    torch.save(whole("googlenet", aux_logits=False).state_dict(), file)
    notes = zoo.create("torchvision:googlenet", weights=file, size=64).notes
    assert any("transform_input" in note for note in notes)


@pytest.mark.slow
def test_a_users_positions_are_resampled_too(tmp_path):
    file = tmp_path / "vit.pth"
    torch.save(whole("vit_b_32", image_size=64).state_dict(), file)
    backbone = zoo.create("torchvision:vit_b_32", weights=file, size=96)
    assert backbone.network.state_dict()["encoder.pos_embedding"].shape == (1, 10, 768)
    assert "150 of 150 tensors matched" in backbone.weights


# --- the real thing --------------------------------------------------------------------------

CLASSES = {"bird": 19, "cat_720p": 285, "dragonfly": 319, "parrot": 88}


@pytest.mark.parametrize(
    ("name", "file", "head", "more"),
    [
        ("mobilenet_v2", "mobilenet_v2/mobilenet_v2_torchvision.pth", "classifier.1", "hot_dog"),
        ("squeezenet1_1", "squeezenet1_1/squeezenet1_1_torchvision.pth", "classifier.1", None),
    ],
)
def test_real_weights_name_the_photos(name, file, head, more):
    path = WEIGHTS / file
    if not (path.exists() and PHOTOS.is_dir()):
        pytest.skip("the shared weights and photos are not here")
    backbone = zoo.create(f"torchvision:{name}", weights=path)
    assert "tensors matched" in backbone.weights
    assert "missing" not in backbone.weights
    tensors = torch.load(path, weights_only=True)
    weight, bias = tensors[f"{head}.weight"].flatten(1), tensors[f"{head}.bias"]
    classes = CLASSES | ({more: 934} if more else {})
    shares = recognised(backbone, weight, bias, classes)
    assert dict(zip(classes, shares.argmax(1).tolist(), strict=True)) == classes
    # With other preprocessing than the weights' own, the network is less sure of what it sees.
    wrong = zoo.create(f"torchvision:{name}", weights=path, mean=(0.0,) * 3, std=(255.0,) * 3)
    right = torch.tensor(list(classes.values()))[:, None]
    less = recognised(wrong, weight, bias, classes).gather(1, right).mean()
    assert less < 0.8 * shares.gather(1, right).mean()


def recognised(backbone, weight, bias, names) -> torch.Tensor:
    """Give the probabilities of the 1,000 classes for some photos."""
    spec = backbone.input_spec
    pictures = [Image.open(PHOTOS / f"{photo}.jpg").convert("RGB") for photo in names]
    pixels = torch.stack([torch.from_numpy(normalise(resize(p, spec), spec)) for p in pictures])
    with torch.no_grad():
        *body, pool = [block.module for block in backbone.blocks]
        maps = nn.Sequential(*body)(pixels)
        if "squeezenet" in backbone.name:  # whose classifier looks at each position, first
            scores = torch.einsum("bchw,kc->bkhw", maps, weight) + bias[:, None, None]
            return scores.relu().mean((2, 3)).softmax(1)
        return (pool(maps) @ weight.T + bias).softmax(1)


def test_a_classifier_on_a_torchvision_network_is_fitted_saved_and_used(
    command, tmp_path, monkeypatch
):
    monkeypatch.undo()
    photos = write_photos(tmp_path / "photos", each=10)
    file = tmp_path / "squeezenet.pth"
    torch.save(whole("squeezenet1_1").state_dict(), file)
    out = tmp_path / "run"
    done = command(
        *("fit", photos, "--backbone", "torchvision:squeezenet1_1", "--weights", file),
        *("--strategy", "feature-extraction", "--size", 64, "--out", out),
    )
    assert done.code == 0, done.err
    files = {path.name for path in (out / "model").iterdir()}
    assert files == {"headstart.json", "model.safetensors", "MANIFEST.json", "README.md"}
    assert "timm" not in (out / "model" / "README.md").read_text()
    described = json.loads((out / "model" / "headstart.json").read_text())
    assert described["architecture"]["zoo"] == "torchvision"
    assert described["origin"]["backbone"] == "torchvision:squeezenet1_1"
    assert described["input_spec"]["interpolation"] == "bilinear"
    found = command("predict", out / "model", photos / "cat" / "0.jpg", "--json")
    assert found.code == 0, found.err
    assert "cat" in found.out
    once_more = command(
        *("fit", photos, "--weights", out, "--strategy", "freeze-first:40layers"),
        *("--epochs", 1, "--out", tmp_path / "second"),
    )
    assert once_more.code == 0, once_more.err
    assert "torchvision:squeezenet1_1" in once_more.err
