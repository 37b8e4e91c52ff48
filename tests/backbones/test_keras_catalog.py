from __future__ import annotations

import hashlib
import inspect
import json

import numpy as np
import pytest

from headstart.backbones import keras_catalog
from headstart.backbones.keras_backend import load_keras
from headstart.backbones.keras_catalog import WeightsFile, entry, fetch, listings, names
from headstart.data.transforms import normalise
from headstart.errors import MissingWeights, ModelError, UnknownName


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Keras's folder, empty."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "models").mkdir()
    return tmp_path


def test_every_network_of_keras_applications_is_in_the_table():
    applications = load_keras("a test").applications
    theirs = {n for n, v in vars(applications).items() if inspect.isfunction(v)}
    assert set(names()) == theirs


def test_listings_are_what_keras_publishes(home):
    listed = {each.name: each for each in listings()}
    one = listed["keras:ResNet50"]
    assert (one.zoo, one.parameters, one.input, one.top1) == ("keras", 25_583_592, 224, 0.749)
    assert (one.licence, one.cached) == (None, False)
    assert all(0.65 < each.top1 < 0.88 for each in listed.values())
    (home / "models" / entry("VGG16").weights_for(224).file).write_bytes(b"")
    assert [each.name for each in listings() if each.cached] == ["keras:VGG16"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("mobilenetv2", "MobileNetV2"), ("mobilenet_v2", "MobileNetV2"), ("resnet50", "ResNet50")],
)
def test_a_name_in_other_letters_is_suggested(given, meant):
    with pytest.raises(UnknownName) as caught:
        entry(given)
    assert caught.value.hint == f"Did you mean keras:{meant}?"


def test_an_unknown_name_is_an_error_with_what_is_near():
    with pytest.raises(UnknownName, match="no Keras network named 'ResNet51'") as caught:
        entry("ResNet51")
    assert "ResNet50" in caught.value.hint


MODULES = {
    "ResNet50": "resnet",
    "VGG19": "vgg19",
    "MobileNetV2": "mobilenet_v2",
    "ResNet50V2": "resnet_v2",
    "NASNetMobile": "nasnet",
    "Xception": "xception",
    "DenseNet121": "densenet",
    "EfficientNetB0": "efficientnet",
    "EfficientNetV2S": "efficientnet_v2",
    "MobileNetV3Large": "mobilenet_v3",
    "ConvNeXtTiny": "convnext",
}


@pytest.mark.parametrize(("name", "module"), MODULES.items())
def test_the_input_spec_is_kerass_own_preprocessing(name, module):
    applications = load_keras("a test").applications
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    theirs = getattr(applications, module).preprocess_input(pixels.astype("float32"))
    ours = normalise(pixels, entry(name).input_spec)
    np.testing.assert_allclose(ours, np.moveaxis(theirs, -1, 0), atol=2e-5)


@pytest.mark.parametrize(
    ("name", "size"),
    [("MobileNetV2", 96), ("MobileNetV2", 224), ("ResNet50", 224), ("Xception", 299)],
)
def test_the_table_names_the_file_that_keras_would_download(name, size, monkeypatch, home):
    from keras.src.utils import file_utils

    asked = {}

    def note(fname, origin, file_hash=None, **_):
        asked.update(file=fname, origin=origin, hash=file_hash)
        raise InterruptedError

    monkeypatch.setattr(file_utils, "get_file", note)
    make = getattr(load_keras("a test").applications, name)
    with pytest.raises(InterruptedError):
        make(include_top=False, input_shape=(size, size, 3))
    assert WeightsFile(**asked) == entry(name).weights_for(size)


def test_other_sizes_take_the_weights_of_the_default():
    assert entry("MobileNetV2").weights_for(100) == entry("MobileNetV2").weights_for(224)
    assert "_160_" in entry("MobileNetV2").weights_for(160).file


def test_weights_in_kerass_folder_are_found(home):
    path = home / "models" / entry("MobileNetV2").weights_for(96).file
    path.write_bytes(b"x")
    assert fetch(entry("MobileNetV2"), 96) == (path, "from the cache")


def test_weights_that_are_nowhere_are_an_error_that_says_where_they_belong(home):
    with pytest.raises(MissingWeights, match="HF_HUB_OFFLINE forbids") as caught:
        fetch(entry("VGG16"), 224)
    wanted = entry("VGG16").weights_for(224)
    assert str(home / "models") in caught.value.message
    assert wanted.origin in caught.value.hint
    assert wanted.file in caught.value.hint
    assert caught.value.exit_code == 6


def test_weights_that_are_not_kerass_are_an_error(home):
    path = entry("VGG16").weights_for(224).path
    path.write_bytes(b"x")
    with pytest.raises(ModelError, match="its md5 is another") as caught:
        fetch(entry("VGG16"), 224)
    assert "Delete it" in caught.value.hint


@pytest.fixture
def online(monkeypatch):
    """Downloading is allowed, and somebody listens."""
    from huggingface_hub import constants

    from headstart.backbones import hub

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_reach", lambda address: None)


def test_weights_are_downloaded_by_keras_into_its_folder(home, online, monkeypatch, capsys):
    keras = load_keras("a test")
    content = b"weights"
    wanted = WeightsFile("a.h5", "https://example.com/a.h5", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(keras_catalog.Entry, "weights_for", lambda *_: wanted)
    asked = {}

    def get_file(fname, origin, **options):
        asked.update(options, fname=fname, origin=origin)
        print("100 %")
        wanted.path.write_bytes(content)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert fetch(entry("VGG16"), 224) == (home / "models" / "a.h5", "downloaded")
    assert capsys.readouterr() == ("", "100 %\n")
    assert asked == {
        "fname": "a.h5",
        "origin": "https://example.com/a.h5",
        "cache_dir": str(home),
        "cache_subdir": "models",
        "file_hash": wanted.hash,
    }


@pytest.mark.parametrize("error", [Exception("URL fetch failure: 503"), OSError("refused")])
def test_a_download_that_fails_is_an_error_of_missing_weights(home, online, monkeypatch, error):
    keras = load_keras("a test")

    def get_file(*_, **__):
        raise error

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    with pytest.raises(MissingWeights, match=f"can't be downloaded: {error}"):
        fetch(entry("VGG16"), 224)


def test_the_table_is_what_the_script_writes():
    table = json.loads(
        (keras_catalog.files("headstart.backbones") / "keras_networks.json").read_text("utf-8")
    )
    assert all(
        set(row) == {"parameters", "input", "top1", "preprocessing", "files"}
        for row in table.values()
    )
