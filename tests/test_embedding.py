"""The features of a folder of images, as a file of arrays."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.cache import Cache
from headstart.embedding import Embedding, create_backbone, embed
from headstart.errors import DataError, ResourceError, UnknownName
from headstart.options import Options
from pictures import picture, write_photos

OPTIONS = Options(precision="fp32", batch_size=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Five pictures of each of two classes. Not to be written to."""
    return write_photos(tmp_path_factory.mktemp("data"), each=5)


@pytest.fixture
def own(data, tmp_path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(data, tmp_path / "photos"))


def test_the_file_holds_features_paths_and_labels(data, tmp_path):
    embedding = embed(data, OPTIONS)
    embedding.write(tmp_path / "out" / "features.npz")

    with np.load(tmp_path / "out" / "features.npz", allow_pickle=False) as file:
        assert sorted(file) == ["features", "labels", "paths"]
        assert (file["features"].shape, file["features"].dtype) == ((10, 1280), np.float32)
        assert np.array_equal(file["features"], embedding.features)
        names = file["paths"].tolist()
        assert file["labels"].tolist() == [name.partition("/")[0] for name in names]
    assert names == sorted(path.relative_to(data).as_posix() for path in data.rglob("*.jpg"))


def test_a_file_keeps_the_name_it_was_given(data, tmp_path):
    embed(data, OPTIONS).write(tmp_path / "features")
    assert [path.name for path in tmp_path.iterdir()] == ["features"]


def test_a_file_that_can_not_be_written_is_a_resource_error(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        embed(data, OPTIONS).write(tmp_path / "file" / "features.npz")


def test_the_features_are_those_of_the_classifier(data, classifier):
    embedding = embed(data, Options(precision="fp32"))
    files = [data / name for name in embedding.names]
    assert np.array_equal(embedding.features, classifier.embed(files))


def test_what_was_computed_is_remembered(data, tmp_path, monkeypatch):
    cache, computed = Cache(tmp_path / "cache"), []
    first = embed(data, OPTIONS, cache=cache, progress=lambda done, total: computed.append(done))
    assert computed == [8, 10]

    monkeypatch.setattr("headstart.data.loader.decode", lambda *_, **__: pytest.fail("decoded"))
    again = embed(data, OPTIONS, cache=cache, progress=lambda done, total: pytest.fail("computed"))

    assert np.array_equal(again.features, first.features)
    assert (again.names, again.labels) == (first.names, first.labels)


def test_new_images_alone_are_computed(own, tmp_path):
    cache, totals = Cache(tmp_path / "cache"), []
    before = embed(own, OPTIONS, cache=cache)
    picture(0, 50).save(own / "cat/50.jpg")

    after = embed(own, OPTIONS, cache=cache, progress=lambda done, total: totals.append(total))

    assert totals == [1]
    place = after.names.index("cat/50.jpg")
    assert np.array_equal(np.delete(after.features, place, axis=0), before.features)


def test_every_batch_is_filled_up(data, tmp_path, monkeypatch):
    backbone, seen = create_backbone(OPTIONS), []
    monkeypatch.setattr("headstart.embedding.create_backbone", lambda options: backbone)
    first = backbone.blocks[0].module
    with first.register_forward_hook(lambda module, given, out: seen.append(len(given[0]))):
        embed(data, OPTIONS, cache=Cache(tmp_path / "cache"))
    assert seen == [8, 8]  # for ten images


def test_one_class_is_enough(own):
    shutil.rmtree(own / "dog")
    assert set(embed(own, OPTIONS).labels) == {"cat"}


def test_all_parts_of_data_in_split_folders_are_embedded(data, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(data, tmp_path / part)
    embedding = embed(tmp_path, OPTIONS)
    assert {name.partition("/")[0] for name in embedding.names} == {"train", "test"}
    assert (len(embedding.names), set(embedding.labels)) == (20, {"cat", "dog"})
    assert np.array_equal(embedding.features[:10], embedding.features[10:])


def test_bad_files_are_listed_and_have_no_row(own):
    (own / "cat/1.jpg").write_bytes(b"no image")
    whole = (own / "dog/2.jpg").read_bytes()
    (own / "dog/2.jpg").write_bytes(whole[:-300])

    embedding = embed(own, replace(OPTIONS, max_bad=0.2))

    assert {failure.name for failure in embedding.failed} == {"cat/1.jpg", "dog/2.jpg"}
    assert len(embedding.features) == len(embedding.names) == len(embedding.labels) == 8
    assert not {"cat/1.jpg", "dog/2.jpg"} & set(embedding.names)
    document = embedding.to_dict()
    assert (document["n"], document["feature_dim"], len(document["failed"])) == (8, 1280, 2)
    with pytest.raises(DataError, match="2 of 10 images can't be read"):
        embed(own, replace(OPTIONS, max_bad=0.1))


def test_rows_belong_to_their_names_when_some_are_bad(own):
    before = embed(own, OPTIONS)
    (own / "cat/1.jpg").write_bytes((own / "cat/1.jpg").read_bytes()[:-300])
    after = embed(own, replace(OPTIONS, max_bad=0.2))
    kept = [before.names.index(name) for name in after.names]
    assert np.array_equal(after.features, before.features[kept])


@pytest.mark.parametrize("change", [{"resize": "pad"}, {"size": 160}, {"precision": "bf16"}])
def test_each_option_changes_the_features(change, own):
    for file in own.rglob("*.jpg"):
        picture(1, 1, side=60).crop((0, 0, 60, 40)).save(file)
    plain, other = embed(own, OPTIONS).features, embed(own, replace(OPTIONS, **change)).features
    assert not np.allclose(plain, other, atol=1e-3)


def test_a_backbone_takes_the_resize_rule_that_is_asked_for():
    assert create_backbone(OPTIONS).input_spec.resize == "crop"
    assert create_backbone(replace(OPTIONS, resize="squash")).input_spec.resize == "squash"


def test_an_unknown_backbone_is_refused(data):
    with pytest.raises(UnknownName, match="efficientnet_lite9"):
        embed(data, replace(OPTIONS, backbone="bundled:efficientnet_lite9"))


def test_names_that_are_not_unicode_survive(tmp_path):
    embedding = Embedding(np.zeros((1, 2), np.float32), ("cat/\udcff.jpg",), ("cat",), ())
    embedding.write(tmp_path / "features.npz")
    with np.load(tmp_path / "features.npz", allow_pickle=False) as file:
        assert file["paths"].tolist() == ["cat/\udcff.jpg"]


def test_images_are_read_as_the_options_say(data, tmp_path):
    made = embed(data, replace(OPTIONS, classes=("dog",)))
    assert set(made.labels) == {"dog"}
