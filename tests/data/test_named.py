"""Data sets that have a name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from headstart.data.named import NAMES, as_text, is_name, open_name
from headstart.data.reading import Reading
from headstart.errors import MissingExtra, UnknownName


@pytest.mark.parametrize("name", [*NAMES, "torchvision:Flowers102", "torchvision:"])
def test_a_name_is_one_as_text_only(name) -> None:
    assert is_name(name)
    assert not is_name(Path(name))
    assert not is_name(f"./{name}")


@pytest.mark.parametrize("name", [*NAMES, "torchvision:DTD"])
def test_a_path_with_the_name_of_a_set_stays_a_path_as_text(name) -> None:
    assert as_text(name) == name
    assert as_text(Path(name)) == f"./{name}"
    assert not is_name(as_text(Path(name)))
    assert as_text(Path("sets") / name) == f"sets/{name}"


@pytest.mark.parametrize("other", ["photos", "ELPV", "elpv/", "", "C:\\elpv", None, 3])
def test_other_things_are_no_names(other) -> None:
    assert not is_name(other)


def test_a_name_needs_its_package(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        open_name("elpv", Reading())
    assert caught.value.hint == 'Install it with: pip install "headstart[samples]"'


def test_elpv_is_a_labelled_set_with_its_licence() -> None:
    if importlib.util.find_spec("elpv_dataset") is None:
        pytest.skip("elpv-dataset is not installed")
    dataset = open_name("elpv", Reading())
    labels = [item.label for item in dataset.items]
    assert dataset.classes == ("defective", "functional")
    assert (labels.count("defective"), labels.count("functional")) == (821, 1803)
    assert dataset.items[0].name == "images/cell0001.png"
    assert all(item.path.is_file() for item in dataset.items[:20])
    assert dataset.licence == "CC BY-NC-SA 4.0"
    assert "CC BY-NC-SA 4.0" in dataset.notes[0]
    assert "Deitsch" in dataset.notes[0]


def test_torchvisions_names_go_where_they_are_known(monkeypatch) -> None:
    def open_named(name, reading, *, cache):
        return name, reading

    stand_in = ModuleType("headstart.data.torchvision_sets")
    stand_in.open_named = open_named
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    reading = Reading(root=Path("sets"))
    assert open_name("torchvision:DTD", reading) == ("torchvision:DTD", reading)


def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(UnknownName, match="no data set named 'elvp'") as caught:
        open_name("elvp", Reading())
    assert caught.value.hint == "Did you mean elpv?"
