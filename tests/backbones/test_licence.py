from __future__ import annotations

import json

import pytest

from headstart.backbones.licence import check_licence, licence_beside
from headstart.errors import ModelError, UsageError


@pytest.mark.parametrize(
    "licence", ["cc-by-nc-4.0", "CC-BY-NC-SA-4.0", "apple-amlr", "seer-license", "noncommercial"]
)
def test_what_forbids_commercial_use_must_be_allowed(licence):
    with pytest.raises(UsageError, match=f"weights of net are under {licence}, which") as caught:
        check_licence("net", licence, allow_noncommercial=False, field="weights")
    assert caught.value.field == "weights"
    assert "--allow-noncommercial" in caught.value.hint
    check_licence("net", licence, allow_noncommercial=True)


@pytest.mark.parametrize("licence", [None, "", "MIT", "apache-2.0", "cc-by-4.0"])
def test_all_others_are_free(licence):
    check_licence("net", licence, allow_noncommercial=False)


@pytest.fixture
def weights(tmp_path):
    return tmp_path / "model.safetensors"


def write(weights, name, document) -> None:
    weights.with_name(name).write_text(json.dumps(document))


def test_nothing_beside_the_weights_says_nothing(weights):
    assert licence_beside(weights) is None


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("headstart.json", {"origin": {"licence": "L"}, "architecture": {"architecture": "any"}}),
        ("config.json", {"architecture": "any", "pretrained_cfg": {"license": "L"}}),
        ("config.json", {"architecture": "any", "license": "L"}),  # timm's older form
    ],
)
def test_the_licence_beside_the_weights_is_read(weights, name, document):
    write(weights, name, document)
    assert licence_beside(weights) == "L"


def test_headstarts_own_file_counts_most_where_it_says_something(weights):
    write(weights, "config.json", {"pretrained_cfg": {"license": "theirs"}})
    write(weights, "headstart.json", {"origin": {"licence": "ours"}})
    assert licence_beside(weights) == "ours"
    write(weights, "headstart.json", {"origin": {"licence": None}})
    assert licence_beside(weights) == "theirs"


@pytest.mark.parametrize("document", [[], "text", {}, {"origin": []}, {"origin": {}}])
def test_a_file_that_names_none_says_nothing(weights, document):
    write(weights, "headstart.json", document)
    assert licence_beside(weights) is None


def test_a_file_that_is_no_json_is_left_to_the_preprocessing(weights):
    weights.with_name("headstart.json").write_text("{")
    assert licence_beside(weights) is None


@pytest.mark.parametrize("licence", [5, ["cc-by-nc-4.0"], {"name": "MIT"}])
def test_a_licence_is_words(weights, licence):
    write(weights, "headstart.json", {"origin": {"licence": licence}})
    with pytest.raises(ModelError, match=r"headstart\.json, beside the weights, must") as caught:
        licence_beside(weights)
    assert caught.value.hint
