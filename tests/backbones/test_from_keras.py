from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import headstart
from headstart.backbones import from_keras, zoo
from headstart.backbones.base import layers
from headstart.backbones.from_keras import new_model
from headstart.backbones.keras_backend import load_keras
from headstart.backbones.keras_blocks import to_steps
from headstart.backbones.keras_catalog import entry
from headstart.backbones.keras_h5 import read_h5
from headstart.data.transforms import normalise, resize
from headstart.errors import ModelError, UnknownName, UnsafeFile, UsageError
from headstart.files import file_digest
from headstart.strategy.phase import Phase, Rate, Train
from headstart.strategy.strategy import Strategy
from headstart.training.model import Model
from headstart.training.optim import apply
from interruptions import at, interrupt
from keras_files import classic
from networks import images, shake
from pictures import write_photos

pytestmark = pytest.mark.slow

NAME, SIZE = "keras:MobileNetV3Small", 64


@pytest.fixture(scope="module")
def backbone():
    """A network with all its numbers at random. Not to be written to."""
    made = zoo.create(NAME, size=SIZE, random=0)
    shake(made.network)
    return made


def test_random_weights_follow_the_seed():
    first, again, other = (zoo.create(NAME, size=SIZE, random=seed).digest() for seed in (1, 1, 2))
    assert first == again != other


def test_it_says_what_it_is(backbone):
    assert backbone.full_name == NAME
    assert backbone.feature_dim == 576
    assert backbone.licence is backbone.classifier is None
    assert backbone.weights == "random, seed 0"
    spec = backbone.input_spec
    assert (spec.height, spec.mean, spec.std) == (64, (0, 0, 0), (1, 1, 1))
    assert json.loads(json.dumps(backbone.architecture)) == backbone.architecture


def test_the_digest_covers_statistics(backbone):
    other = zoo.rebuild(backbone.architecture, backbone.input_spec)
    other.network.load_state_dict(backbone.network.state_dict())
    assert other.digest() == backbone.digest()
    other.network.conv_bn.moving_mean += 1
    assert other.digest() != backbone.digest()


def test_a_size_that_is_too_small_is_the_users_to_change():
    with pytest.raises(UsageError, match="can't take images of 40 x 40 pixels") as caught:
        zoo.create("keras:InceptionV3", size=40, random=0)
    assert caught.value.field == "size"


def test_a_size_that_was_not_asked_for_is_an_error_of_the_model(backbone):
    spec = headstart.InputSpec(8, 8, (0, 0, 0), (1, 1, 1))
    with pytest.raises(ModelError, match="can't take images of 8 x 8"):
        new_model("VGG16", spec)


@pytest.mark.parametrize("architecture", [{"zoo": "keras"}, {"zoo": "keras", "architecture": "x"}])
def test_a_description_of_no_network_of_kerass_is_an_error(backbone, architecture):
    with pytest.raises(ModelError, match="Keras has no network"):
        zoo.rebuild(architecture, backbone.input_spec)


def test_an_unknown_network_is_an_error():
    with pytest.raises(UnknownName, match="no Keras network named 'MobileNetV9'"):
        from_keras.create("MobileNetV9", None)


def test_weights_saved_under_our_names_are_loaded(backbone, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({k: v.contiguous() for k, v in backbone.network.state_dict().items()}, path)
    again = zoo.create(NAME, size=SIZE, weights=path)
    assert again.digest() == backbone.digest()
    assert again.weights.startswith("x.safetensors (206 of 206 tensors matched")


# Keras's own weights


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Keras's folder, empty."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    return tmp_path


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Keras's own
@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetB0"])
def test_kerass_weights_give_the_features_that_keras_gives(home, monkeypatch, name):
    size = 96 if name == "MobileNetV2" else 224
    found = entry(name)
    made = zoo.create(f"keras:{name}", size=size, random=0)
    file = found.weights_for(size)
    new_model(name, made.input_spec).save(home / "models" / "x.h5")
    stand_in = type(file)("x.h5", file.origin, None)
    monkeypatch.setattr(type(found), "weights_for", lambda *_: stand_in)
    backbone = zoo.create(f"keras:{name}", size=size)
    assert backbone.weights == "ImageNet, x.h5, from the cache"
    keras = load_keras("a test")
    from keras.src.utils import file_utils

    path = str(stand_in.path)
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: path)
    with keras.device("cpu"), torch.no_grad():
        theirs = getattr(keras.applications, name)(
            include_top=False, pooling="avg", input_shape=(size, size, 3)
        )
        x = images(backbone, 2) * (50 if name == "EfficientNetB0" else 1)
        expected = theirs(x.permute(0, 2, 3, 1), training=False)
        torch.testing.assert_close(backbone.chain()(x), expected, rtol=1e-4, atol=1e-5)


def test_a_damaged_file_of_kerass_is_an_error(home, monkeypatch):
    file = entry("MobileNetV2").weights_for(96)
    file.path.write_bytes(b"no HDF5")
    with pytest.raises(ModelError, match="can't be read as HDF5") as caught:
        zoo.create("keras:MobileNetV2", size=96)
    assert caught.value.hint == "Delete it, and it is downloaded again."


def test_a_file_that_is_not_all_of_the_network_is_an_error(home):
    network = zoo.create("keras:MobileNetV2", size=96, random=0).network
    *most, last = network.state_dict().items()
    layers: dict[str, dict[str, np.ndarray]] = {"more": {"more/kernel": np.zeros(1)}}
    for name, value in most:
        layer, _, variable = name.rpartition(".")
        layers.setdefault(layer, {})[f"{layer}/{variable}"] = value.numpy()
    path = classic(entry("MobileNetV2").weights_for(96).path, layers)
    told = "does not fit keras:MobileNetV2: 259 of 260 tensors matched; 1 missing.*1 not used"
    with pytest.raises(ModelError, match=told) as caught:
        zoo.create("keras:MobileNetV2", size=96)
    assert last[0] in caught.value.message
    assert caught.value.field == str(path)


def test_a_file_without_a_hash_is_read_as_carefully_as_any_other(home):
    assert entry("MobileNetV2").weights_for(96).hash is None
    path = entry("MobileNetV2").weights_for(96).path
    classic(home / "other.h5", {"a": {"a/kernel": np.ones(2)}})
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"a"]
        file["a"] = h5py.ExternalLink(str(home / "other.h5"), "/a")
    with pytest.raises(UnsafeFile, match="points elsewhere with a") as caught:
        zoo.create("keras:MobileNetV2", size=96)
    assert caught.value.hint == "Delete it, and it is downloaded again."


# Training


def kerass_layers(model, most: int) -> set[str]:
    """Name what is learned in the first layers of Keras's own list."""
    names = {
        id(variable): f"{step.name}.{name}"
        for step in to_steps(model)
        for name, variable in step.module._template.variables.items()
    }
    return {names[id(v)] for layer in model.layers[:most] for v in layer.trainable_weights}


@pytest.mark.parametrize(("name", "most"), [("MobileNetV2", 100), ("ResNet50", 18)])
def test_layers_are_counted_as_keras_counts_them(name, most):
    backbone = zoo.create(f"keras:{name}", size=32, random=0)
    described = Model(backbone, torch.nn.Linear(backbone.feature_dim, 2)).describe()
    model = new_model(name, backbone.input_spec)
    for end in (2, 3, most - 1, most, most + 1, len(model.layers)):
        ours = {each.name for each in described if 0 <= each.layer < end}
        assert ours == kerass_layers(model, end)


def test_operations_that_keras_does_not_list_are_layers_too(backbone):
    """docs/backbones.md says of which networks that is so."""
    counted = sum(1 for block in backbone.blocks for _ in layers(block.module))
    assert counted == len(new_model("MobileNetV3Small", backbone.input_spec).layers) + 18


@pytest.mark.parametrize(
    ("frozen", "batch_norm", "moving"),
    [
        ("stage:0..8", "train", slice(9, None)),
        ("stage:0..8", "hold", slice(0)),
        ("@norm", "train", slice(0)),
        ("conv", "train", slice(None)),  # one layer's parameters, in a block that is trained
    ],
)
def test_statistics_move_where_batch_norm_trains_and_nowhere_else(frozen, batch_norm, moving):
    backbone = zoo.create(NAME, size=SIZE, random=0)
    shake(backbone.network)
    model = Model(backbone, torch.nn.Linear(backbone.feature_dim, 2))
    rates = (Rate(frozen, None), Rate("stage:0..-1", 0.1), Rate("head", 0.1))
    apply(model, Phase(rates, Train(epochs=1, batch_norm=batch_norm)))
    before = {name: value.clone() for name, value in backbone.network.named_buffers()}
    assert len(before) == 2 * 34
    model.train()
    model(images(backbone)).sum().backward()
    stages = backbone.stages[moving]
    trained = {
        name
        for block in backbone.blocks
        if block.stage in stages
        for name, _ in block.module.named_buffers()
    }
    after = dict(backbone.network.named_buffers())
    assert {name for name in before if not torch.equal(before[name], after[name])} == trained
    frozen_ones = [p for n, p in backbone.network.named_parameters() if not p.requires_grad]
    assert frozen_ones
    assert all(parameter.grad is None for parameter in frozen_ones)


def test_fit_and_predict_from_the_command_line(command, tmp_path):
    photos = write_photos(tmp_path / "photos", each=10, side=40)
    result = command(
        *("fit", photos, "--out", tmp_path / "run", "--backbone", "keras:MobileNetV2"),
        *("--weights", weights(tmp_path)),
        *("--size", "96", "--strategy", "last-blocks:2", "--epochs", "1", "--precision", "fp32"),
    )
    assert result.code == 0, result.err
    model = tmp_path / "run" / "model"
    assert {path.name for path in model.iterdir()} >= {"model.keras", "model.safetensors"}
    assert "model.keras" in (model / "README.md").read_text("utf-8")
    picture = next(photos.rglob("*.jpg"))
    classifier = headstart.load(model)
    (ours,) = classifier.predict(picture)
    theirs = from_keras_file(model / "model.keras", classifier, picture)
    np.testing.assert_allclose(
        theirs, [ours.probabilities[name] for name in classifier.classes], atol=1e-4
    )
    again = command("predict", tmp_path / "run", picture)
    assert ours.label in again.out
    (model / "model.keras").write_bytes(b"another")
    with pytest.raises(ModelError, match=r"model\.keras was changed"):
        headstart.load(model)


# Statistics that follow batches, and two phases with a draw for each image.
STRATEGY = Strategy(
    "two steps",
    tuple(
        Phase(
            (Rate("head", 1e-2), Rate(f"stage:{first}..-1", 1e-3), Rate("stage:0..-1", None)),
            Train(epochs=1, batch_size=8, batch_norm="train"),
            "standard",
        )
        for first in (-1, -2)
    ),
)
OPTIONS = {"strategy": STRATEGY, "size": 32, "precision": "fp32"}


@pytest.fixture(scope="module")
def start(tmp_path_factory, backbone):
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_file({k: v.contiguous() for k, v in backbone.network.state_dict().items()}, path)
    return {"backbone": NAME, "weights": path}


@pytest.fixture(scope="module")
def trained(few_photos, start, tmp_path_factory):
    """The folder of a run that nobody interrupted. Not to be written to."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    return headstart.fit(few_photos, out, **start, **OPTIONS).folder


def digest(run):
    return file_digest(run / "model" / "model.safetensors")


def test_an_interrupted_run_ends_as_if_it_had_not_been(few_photos, start, trained, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        headstart.fit(few_photos, out, listener=at(5, "step", interrupt), **start, **OPTIONS)
    assert not (out / "model").exists()
    assert digest(headstart.resume(out).folder) == digest(trained)


def test_a_run_gives_its_weights_to_another(few_photos, trained, command, tmp_path):
    out = tmp_path / "second"
    done = command(
        *("fit", few_photos, "--weights", trained, "--out", out),
        *("--strategy", "feature-extraction", "--precision", "fp32"),
    )
    assert done.code == 0, done.err
    assert NAME in done.err
    first, second = (load_file(run / "model" / "model.safetensors") for run in (trained, out))
    kept = [name for name in first if "head" not in name]
    assert len(kept) == 206
    assert all(torch.equal(first[name], second[name]) for name in kept)
    picture = next(few_photos.rglob("*.jpg"))
    label = headstart.load(out).predict(picture)[0].label
    assert label in command("predict", out, picture).out


def weights(folder):
    made = zoo.create("keras:MobileNetV2", size=96, random=0)
    path = folder / "start.safetensors"
    save_file({k: v.contiguous() for k, v in made.network.state_dict().items()}, path)
    return path


def from_keras_file(path, classifier, picture) -> np.ndarray:
    from PIL import Image

    from headstart.data.transforms import normalise, resize

    keras = load_keras("a test")
    assert zipfile.is_zipfile(path)
    spec = classifier.input_spec
    x = normalise(resize(Image.open(picture).convert("RGB"), spec), spec)
    with keras.device("cpu"), torch.no_grad():
        model = keras.saving.load_model(path)
        return model(torch.from_numpy(np.moveaxis(x, 0, -1)[None]), training=False).numpy()[0]


def test_real_weights_know_bulldogs_with_their_own_preprocessing():
    shared = Path(__file__).parents[2] / "../shared"
    file = shared / "weights/mobilenetv2_dogs_keras/dog_breed_mobilenetv2.h5"
    folder = shared / "datasets/oxford_pets_3breeds/images/american_bulldog"
    if not (file.exists() and folder.is_dir()):
        pytest.skip("the shared weights and pets are not here")
    arrays = read_h5(file)
    weight, bias = (torch.from_numpy(arrays[f"dense.{name}"]) for name in ("kernel", "bias"))
    photos = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())[:30]]

    def share(**preprocessing: object) -> float:
        backbone = zoo.create("keras:MobileNetV2", weights=file, size=160, **preprocessing)
        spec = backbone.input_spec
        pixels = torch.stack([torch.from_numpy(normalise(resize(p, spec), spec)) for p in photos])
        with torch.no_grad():
            breeds = (backbone.chain()(pixels) @ weight + bias).argmax(1)
        # 11 and 12 of the file's 19 breeds: bull mastiff and French bulldog, the next of kin.
        return float(((breeds == 11) | (breeds == 12)).float().mean())

    assert share() > 0.6
    assert share(mean=(0.0,) * 3, std=(1 / 255,) * 3) < 0.3  # pixels of 0 to 255
