"""A classifier as a folder: what is read is what was written, or nothing."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from headstart import bundle
from headstart.backbones import zoo
from headstart.classifier import Classifier, load
from headstart.data.read import decode
from headstart.data.transforms import normalise, resize
from headstart.errors import ModelError, ResourceError, UnsafeFile
from headstart.files import file_digest, read_json, write_json
from headstart.training.device import InferencePath
from headstart.training.task import SingleLabel
from networks import untrained
from pictures import picture

WEIGHTS = Path(__file__).parents[1] / "../shared/weights"
FILES = ("headstart.json", "model.safetensors", "README.md", "config.json")
PICTURES = [picture(label, number, side=60) for label in range(3) for number in range(2)]


def classifier_on(backbone) -> Classifier:
    """Put a random head for three classes on a backbone."""
    task = SingleLabel(("cat", "dog", "owl"))
    head = task.head(backbone.feature_dim)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
    return Classifier(backbone, head, task, InferencePath("cpu", "fp32", "channels_last", 4))


def seal(folder: Path) -> None:
    """Write the manifest anew, as whoever changes a file on purpose can."""
    files = {name: file_digest(folder / name) for name in FILES if (folder / name).exists()}
    write_json(folder / "MANIFEST.json", {"format": 1, "files": files})


def edit(file: Path, **changes) -> None:
    write_json(file, read_json(file) | changes)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A small vision transformer whose weights came from a user's file."""
    file = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_vit", img_size=64).state_dict(), file)
    backbone = zoo.create("timm:test_vit", weights=file, mean=[0.4], std=[0.2], size=64)
    return classifier_on(replace(backbone, licence="MIT"))


@pytest.fixture(scope="module")
def saved(vit, tmp_path_factory) -> Path:
    return vit.save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_what_is_loaded_is_what_was_saved_bit_by_bit(vit, saved):
    loaded = load(saved)

    own, read = vit.backbone.network.state_dict(), loaded.backbone.network.state_dict()
    assert list(own) == list(read)
    assert all(torch.equal(own[name], read[name]) for name in own)
    assert torch.equal(vit.head.weight, loaded.head.weight)
    assert torch.equal(vit.head.bias, loaded.head.bias)
    assert loaded.classes == vit.classes
    assert loaded.input_spec == vit.input_spec
    assert np.array_equal(loaded.predict_proba(PICTURES), vit.predict_proba(PICTURES))
    assert np.array_equal(loaded.embed(PICTURES), vit.embed(PICTURES))


@pytest.mark.parametrize(
    "form",
    [
        "linear",
        "linear,dropout=0.2",
        "mlp:16",
        "mlp:16/8,dropout=0.5/0.3/0.1",
        "mlp:8,dropout=0/0.25",
    ],
)
@pytest.mark.parametrize("average", ["none", "flip", "square"])
def test_a_head_of_any_form_and_its_average_survive(form, average, vit, tmp_path):
    head = vit.task.head(vit.backbone.feature_dim, form, seed=3)
    classifier = Classifier(vit.backbone, head.eval(), vit.task, vit.path, average=average)
    folder = classifier.save(tmp_path / "model")
    loaded = load(folder)

    assert str(loaded.head) == str(classifier.head)
    assert not loaded.head.training
    own, read = classifier.head.state_dict(), loaded.head.state_dict()
    assert list(own) == list(read)
    assert all(torch.equal(own[name], read[name]) for name in own)
    assert loaded.average == average
    assert np.array_equal(loaded.predict_proba(PICTURES), classifier.predict_proba(PICTURES))
    assert (folder / "config.json").exists() == form.startswith("linear")
    again = load(folder).save(tmp_path / "again")
    assert (again / "MANIFEST.json").read_bytes() == (folder / "MANIFEST.json").read_bytes()


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("architecture", {"num_classes": -1}),
        ("architecture", {"arguments": {"img_size": [320_000_000, 320_000_000]}}),
        ("input_spec", {"height": 320_000_000}),
        ("input_spec", {"width": 64.5}),
    ],
)
def test_numbers_that_no_network_has_are_refused_though_the_manifest_agrees(part, changes, folder):
    document = read_json(folder / "headstart.json")
    edit(folder / "headstart.json", **{part: document[part] | changes})
    seal(folder)
    with pytest.raises(ModelError, match="must have from"):
        load(folder)


def test_a_head_with_layers_replaces_a_linear_one_and_its_config(vit, tmp_path):
    folder = vit.save(tmp_path / "model")
    head = vit.task.head(vit.backbone.feature_dim, "mlp:4", seed=3)
    Classifier(vit.backbone, head.eval(), vit.task, vit.path).save(folder)
    assert not (folder / "config.json").exists()
    assert "config.json" not in read_json(folder / "MANIFEST.json")["files"]
    assert load(folder).head[0].out_features == 4


def test_a_finished_run_loads_by_its_folder_and_by_the_model_folder_in_it(run, classifier):
    inner = load(str(run / "model"))
    assert inner.predict(PICTURES) == classifier.predict(PICTURES)


def test_saving_what_was_loaded_writes_the_same_files(saved, tmp_path):
    again = load(saved).save(tmp_path / "again")

    for name in (*FILES, "MANIFEST.json"):
        assert (again / name).read_bytes() == (saved / name).read_bytes(), name


def test_where_the_weights_came_from_and_their_licence_survive(vit, saved):
    backbone = load(saved).backbone
    assert (backbone.licence, backbone.weights) == ("MIT", vit.backbone.weights)
    assert backbone.full_name == "timm:test_vit"


def test_nothing_in_the_folder_is_a_pickle(saved):
    assert {path.name for path in saved.iterdir()} == {*FILES, "MANIFEST.json"}
    for path in saved.iterdir():
        assert path.suffix in (".json", ".md", ".safetensors")
        with pytest.raises(Exception, match=r"."):
            pickle.loads(path.read_bytes())


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_found_before_the_file_is_parsed(name, folder, monkeypatch):
    content = bytearray((folder / name).read_bytes())
    content[0] ^= 1  # to a parser this would be another error, or none
    (folder / name).write_bytes(content)
    monkeypatch.setattr(bundle, "load_tensors", lambda content: pytest.fail("parsed"))

    with pytest.raises(ModelError, match="was changed since it was written") as caught:
        load(folder)

    assert caught.value.field == name
    assert str(folder / name) in caught.value.message


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255)
)
def test_no_byte_can_change_unseen(name, place, mask, folder):
    before = (folder / name).read_bytes()
    content = bytearray(before)
    content[int(place * len(content))] ^= mask
    (folder / name).write_bytes(content)
    try:
        with pytest.raises(ModelError) as caught:
            load(folder)
    finally:
        (folder / name).write_bytes(before)
    assert caught.value.field == name


def test_no_byte_of_the_manifest_can_change_unseen(folder):
    manifest = folder / "MANIFEST.json"
    before = manifest.read_bytes()
    for place in range(len(before)):
        manifest.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        with pytest.raises(ModelError):
            bundle.verify(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        load(folder)


def test_a_file_cut_short_is_named(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"model\.safetensors was changed"):
        load(folder)


@pytest.mark.parametrize("name", ["code.py", "../secret.json", "/etc/hostname", "MANIFEST.json"])
def test_a_manifest_that_names_another_file_is_refused(name, folder):
    manifest = read_json(folder / "MANIFEST.json")
    manifest["files"][name] = "0" * 64
    write_json(folder / "MANIFEST.json", manifest)
    with pytest.raises(ModelError, match="names an unknown file") as caught:
        load(folder)
    assert "Copy the folder again" in caught.value.hint


@pytest.mark.parametrize(
    "document",
    [
        {"format": 1},
        {"format": 1, "files": []},
        {"format": 1, "files": {}},
        {"format": 1, "files": {"README.md": "0"}},
    ],
)
def test_a_manifest_must_list_the_description_and_the_weights(document, folder):
    write_json(folder / "MANIFEST.json", document)
    with pytest.raises(ModelError, match="is not a manifest of headstart's") as caught:
        load(folder)
    assert "Copy the folder again" in caught.value.hint


@pytest.mark.parametrize("name", ["MANIFEST.json", "headstart.json"])
@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_another_format_is_not_guessed_at(name, number, folder):
    edit(folder / name, format=number)
    if name != "MANIFEST.json":
        seal(folder)
    with pytest.raises(ModelError, match="is not of format 1") as caught:
        load(folder)
    assert "Update headstart" in caught.value.hint


@pytest.mark.parametrize("text", ["[]", "7", "{", "", "\0", "[" * 100_000])
def test_a_manifest_that_is_no_document_is_refused(text, folder):
    (folder / "MANIFEST.json").write_text(text)
    with pytest.raises(ModelError, match=r"MANIFEST\.json"):
        load(folder)


@pytest.mark.parametrize("name", [*FILES, "MANIFEST.json"])
@pytest.mark.parametrize("over", [False, True])
def test_a_save_that_ends_early_leaves_nothing_that_loads(name, over, vit, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    if over:  # a finished classifier, which must not lend its manifest to half of the new one
        vit.save(folder)

    def crash(path, content):
        if path.name == name:
            raise KeyboardInterrupt
        write[type(content)](path, content)

    write = {dict: bundle.write_json, bytes: bundle.write_bytes, str: bundle.write_text}
    for function in ("write_json", "write_bytes", "write_text"):
        monkeypatch.setattr(bundle, function, crash)
    with pytest.raises(KeyboardInterrupt):
        vit.save(folder)

    with pytest.raises(ModelError, match="has no finished model"):
        load(folder)


def test_a_save_replaces_what_was_there(vit, classifier, tmp_path):
    folder = classifier.save(tmp_path / "model", card="# Mine")
    assert (folder / "README.md").read_text() == "# Mine"
    vit.save(folder)
    assert np.array_equal(load(folder).embed(PICTURES), vit.embed(PICTURES))


def test_a_place_that_is_no_folder_is_a_resource_error(vit, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ResourceError):
        vit.save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda tensors: tensors.pop("norm.weight"), "norm.weight"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "extra"),
        (lambda tensors: tensors.update({"head.bias": torch.zeros(4)}), "head.bias"),
        (lambda tensors: tensors.update({"head.weight": torch.zeros(64, 3)}), "head.weight"),
        (lambda t: t.update({"norm.bias": t["norm.bias"].double()}), "norm.bias"),
        (lambda t: t.update({"norm.bias": t["norm.bias"].half()}), "norm.bias"),
        (lambda t: t.update({"head.weight": t["head.weight"].int()}), "head.weight"),
    ],
    ids=["missing", "unknown", "classes", "transposed", "float64", "float16", "integers"],
)
def test_weights_that_do_not_fit_are_named_and_not_cast(change, found, folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    seal(folder)

    with pytest.raises(ModelError, match=r"does not fit timm:test_vit: 1 of \d+ tensors") as caught:
        load(folder)

    assert f"such as {found}." in caught.value.message
    assert "Copy the folder again" in caught.value.hint
    assert caught.value.message.count("\n") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": {"zoo": "timm", "name": "x"}},
        {"architecture": {"zoo": "kaggle"}},
        {"architecture": None},
        {"input_spec": {}},
        {"input_spec": {"height": 0, "width": 0, "mean": [0, 0, 0], "std": [1, 1, 1]}},
        {"task": {"name": "segmentation"}},
        {"task": {"name": "single-label"}},
        {"path": {"device": "cpu"}},
        {"head": {}},
        {"head": {"kind": "forest", "name": "head"}},
        {"head": {"kind": "mlp:0", "name": "head"}},
        {"average": "circle"},
        {"origin": None},
    ],
    ids=str,
)
def test_a_description_that_makes_no_sense_is_a_model_error(changes, folder):
    edit(folder / "headstart.json", **changes)
    seal(folder)
    with pytest.raises(ModelError) as caught:
        load(folder)
    if "does not describe a classifier" in caught.value.message:
        assert "Copy the folder again" in caught.value.hint


def test_a_description_can_make_nothing_but_listed_networks(folder, tmp_path):
    architecture = read_json(folder / "headstart.json")["architecture"]
    local = f"local-dir:{tmp_path / 'evil'}"
    for name in (local, "hf-hub:someone/something", "os.system"):
        edit(folder / "headstart.json", architecture=architecture | {"architecture": name})
        seal(folder)
        with pytest.raises(ModelError, match="timm has no network"):
            load(folder)


# A model is never read as a pickle.


class Payload:
    """Runs when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (exec, (f"open({str(self.marker)!r}, 'w').close()",))


def write_payload(path: Path, marker: Path) -> None:
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps({"class_name": "Lambda"}))
            archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n")
            archive.writestr("data.pkl", pickle.dumps(Payload(marker)))
    elif path.suffix in (".pth", ".pt", ".th"):
        torch.save(
            {"state_dict": Payload(marker)},
            path,
            _use_new_zipfile_serialization=path.suffix != ".th",
        )
    else:
        path.write_bytes(pickle.dumps(Payload(marker)))


PAYLOADS = [
    "model.pkl",
    "model.joblib",
    "model.pth",
    "model.pt",
    "model.th",
    "model.keras",
    "model.h5",
    "model.safetensors",
    "MANIFEST.json",
    "model",
]


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "the code in the file was run"


def test_the_payload_of_these_tests_does_run(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_file_given_as_a_model_is_refused(name, tmp_path, marker):
    write_payload(tmp_path / name, marker)
    with pytest.raises(UnsafeFile, match="headstart loads a classifier from a folder only"):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["model.pkl", "model.pth", "model.keras", "model.safetensors"])
@pytest.mark.parametrize("words", [["predict"], ["predict", "--json"], ["evaluate", "--json"]])
def test_the_commands_refuse_it_too(name, words, photos, tmp_path, marker, command):
    write_payload(tmp_path / name, marker)
    result = command(words[0], tmp_path / name, photos, *words[1:])
    assert result.code == 4
    assert "loads a classifier from a folder only" in result.err
    if words[1:]:
        assert result.document["error"]["id"] == "unsafe-file"


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_folder_that_holds_such_a_file_is_no_model(name, tmp_path, marker):
    (tmp_path / "run").mkdir()
    write_payload(tmp_path / "run" / name, marker)
    with pytest.raises(ModelError):
        load(tmp_path / "run")


@pytest.mark.parametrize("name", FILES[:2])
def test_a_pickle_under_a_safe_name_and_with_its_digest_is_not_run(name, folder, marker):
    (folder / name).write_bytes(pickle.dumps(Payload(marker)))
    seal(folder)
    with pytest.raises(ModelError, match=r"is not valid JSON|is not a valid safetensors file"):
        load(folder)


def test_a_torch_file_under_a_safe_name_is_not_read(folder, marker):
    torch.save(Payload(marker), folder / "model.safetensors")
    seal(folder)
    with pytest.raises(ModelError, match="is not a valid safetensors file") as caught:
        load(folder)
    assert "Copy the folder again" in caught.value.hint


def test_what_does_not_exist_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match="does not exist") as caught:
        load(tmp_path / "runs" / "first")
    assert not isinstance(caught.value, UnsafeFile)


# timm loads the folder too.


def timm_logits(folder: Path, pixels) -> torch.Tensor:
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        return network(torch.from_numpy(pixels))


def our_logits(ours: Classifier, images) -> torch.Tensor:
    with torch.inference_mode():
        return ours.head(torch.from_numpy(ours.embed(images)))


def check_timm(ours: Classifier, folder: Path) -> None:
    pixels = np.stack([resize(decode(image), ours.input_spec) for image in PICTURES])
    expected = our_logits(ours, PICTURES)
    found = timm_logits(folder, normalise(pixels, ours.input_spec))
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_timm_gives_the_same_logits_for_the_bundled_network(run, classifier):
    check_timm(classifier, run / "model")


def test_timm_gives_the_same_logits_behind_a_head_with_dropout(vit, tmp_path):
    head = vit.task.head(vit.backbone.feature_dim, "linear,dropout=0.4", seed=3).eval()
    ours = Classifier(vit.backbone, head, vit.task, vit.path)
    check_timm(ours, ours.save(tmp_path / "model"))


def test_timm_gives_the_same_logits_for_a_transformer_of_another_size(vit, saved):
    assert vit.input_spec.height == 64
    check_timm(vit, saved)


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs ../shared/weights")
def test_timm_gives_the_same_logits_for_pretrained_weights_of_a_user(tmp_path):
    file = WEIGHTS / "mobilenet_v2/mobilenetv2_100_timm.safetensors"
    ours = classifier_on(zoo.create("timm:mobilenetv2_100", weights=file))
    check_timm(ours, ours.save(tmp_path / "model"))


def test_timm_prepares_images_as_the_input_spec_says(vit, saved):
    network = timm.create_model(f"local-dir:{saved}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        found = network(torch.stack([transform(image) for image in PICTURES]))
    assert network.pretrained_cfg["label_names"] == list(vit.classes)
    torch.testing.assert_close(found, our_logits(vit, PICTURES), rtol=1e-4, atol=1e-4)


def test_the_cards_say_how_timm_loads_it(run, saved):
    for folder in (run / "model", saved):
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "pretrained=True" in card
        assert "random weights" in card


def test_a_network_with_two_classifiers_gets_one_of_ours_and_no_config_for_timm(folder, tmp_path):
    name = "deit_tiny_distilled_patch16_224"
    save_file(timm.create_model(name).state_dict(), tmp_path / "deit.safetensors")
    ours = classifier_on(zoo.create(f"timm:{name}", weights=tmp_path / "deit.safetensors"))

    ours.save(folder)  # over a classifier that had one

    assert not (folder / "config.json").exists()
    assert "timm loads" not in (folder / "README.md").read_text(encoding="utf-8")
    assert load(folder).predict(PICTURES[0]) == ours.predict(PICTURES[0])


@pytest.mark.slow
def test_a_tensor_with_several_names_in_its_network_is_saved_under_each(tmp_path):
    classifier = classifier_on(untrained("coat_tiny", 64))
    classifier.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.backbone.digest() == classifier.backbone.digest()
