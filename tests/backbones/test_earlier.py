from __future__ import annotations

import pytest

from headstart.backbones.earlier import find_earlier
from headstart.errors import ModelError, UsageError
from headstart.files import file_digest, write_json

NAMED = {"zoo": "timm", "name": "resnet50.a1_in1k", "architecture": "resnet50"}


@pytest.fixture
def folder(tmp_path):
    """The parts of a run folder that count here."""
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    document = {"architecture": NAMED, "origin": {"licence": "MIT"}}
    write_json(model / "headstart.json", document)
    (model / "model.safetensors").write_bytes(b"tensors")
    sign(model)
    return tmp_path / "run"


def sign(model) -> None:
    names = ("headstart.json", "model.safetensors")
    files = {name: file_digest(model / name) for name in names}
    write_json(model / "MANIFEST.json", {"format": 1, "files": files})


@pytest.mark.parametrize("inner", ["", "model"])
def test_a_run_folder_and_its_model_folder_are_the_same(folder, inner):
    found = find_earlier(folder / inner)
    assert found.file == folder / "model" / "model.safetensors"
    assert found.backbone == "timm:resnet50.a1_in1k"
    assert found.architecture["architecture"] == "resnet50"
    assert found.licence == "MIT"


def test_a_folder_without_a_classifier_is_refused(folder):
    (folder / "model" / "MANIFEST.json").unlink()  # written last: the run was not finished
    with pytest.raises(ModelError, match="without a finished classifier") as caught:
        find_earlier(folder)
    assert caught.value.field == "weights"
    assert "folder of a finished run" in caught.value.hint


@pytest.mark.parametrize("name", ["headstart.json", "model.safetensors"])
def test_a_file_that_was_changed_or_is_missing_is_named(folder, name):
    file = folder / "model" / name
    content = file.read_bytes()
    file.write_bytes(content.replace(b"t", b"T"))
    with pytest.raises(ModelError, match=f"{name} is missing, or was changed"):
        find_earlier(folder)
    file.unlink()
    with pytest.raises(ModelError, match=f"{name} is missing, or was changed"):
        find_earlier(folder)


@pytest.mark.parametrize("manifest", [[], {}, {"files": []}, {"files": {}}])
def test_a_manifest_must_list_both(folder, manifest):
    write_json(folder / "model" / "MANIFEST.json", manifest)
    with pytest.raises(ModelError, match=r"headstart\.json is missing, or was changed"):
        find_earlier(folder)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"architecture": {"zoo": "timm"}, "origin": {"licence": None}},
        {"architecture": "resnet50", "origin": {"licence": None}},
        {"architecture": {"zoo": "timm", "name": "n", "architecture": "n"}},
        *(
            {"architecture": NAMED | {key: 5}, "origin": {"licence": None}}
            for key in ("zoo", "name", "architecture")
        ),
        {"architecture": NAMED, "origin": {"licence": ["MIT"]}},
    ],
)
def test_a_description_must_name_the_network(folder, document):
    write_json(folder / "model" / "headstart.json", document)
    sign(folder / "model")
    with pytest.raises(ModelError, match="does not say which network") as caught:
        find_earlier(folder)
    assert "--backbone" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["timm:resnet50", "timm:resnet50.a1_in1k", "timm:resnet50.gluon_in1k"]
)
def test_the_tag_of_the_weights_does_not_count(folder, name):
    find_earlier(folder).check_name(name)


def on(folder, zoo: str, name: str):
    document = {"architecture": NAMED | {"zoo": zoo, "name": name}, "origin": {"licence": None}}
    write_json(folder / "model" / "headstart.json", document)
    sign(folder / "model")
    return find_earlier(folder)


def test_a_bundled_network_is_timms_of_the_same_architecture(folder):
    on(folder, "bundled", "efficientnet_lite1").check_name("timm:tf_efficientnet_lite1.in1k")
    on(folder, "timm", "tf_efficientnet_lite1.in1k").check_name("bundled:efficientnet_lite1")
    with pytest.raises(UsageError):  # which pads in another way
        on(folder, "bundled", "efficientnet_lite1").check_name("timm:efficientnet_lite1")


@pytest.mark.parametrize(
    ("zoo", "name", "given"),
    [
        ("timm", "inception_v3.tv_in1k", "torchvision:inception_v3"),  # which normalises inside
        ("torchvision", "resnet50@IMAGENET1K_V1", "timm:resnet50"),
        ("bundled", "small_cnn", "timm:small_cnn"),
    ],
)
def test_another_zoos_network_of_the_same_name_is_another(folder, zoo, name, given):
    with pytest.raises(UsageError, match=f"classifier on {zoo}:{name}, not on {given}"):
        on(folder, zoo, name).check_name(given)


@pytest.mark.parametrize(
    "name", ["timm:resnet18", "torchvision:resnet50", "bundled:efficientnet_lite0", "resnet50", ""]
)
def test_another_network_is_refused(folder, name):
    with pytest.raises(UsageError, match=r"classifier on timm:resnet50\.a1_in1k, not on") as caught:
        find_earlier(folder).check_name(name)
    assert caught.value.field == "backbone"
    assert "Leave --backbone away" in caught.value.hint
