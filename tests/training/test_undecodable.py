from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import PIL
import pytest

from headstart.cache import Cache
from headstart.data.read import REPLACED, Failure
from headstart.inputspec import InputSpec
from headstart.training.undecodable import Undecodable

SPEC = InputSpec(32, 32, mean=(127.5,) * 3, std=(127.5,) * 3)
CUT = Failure("a.jpg", "cut short", 0)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def remember(cache: Cache, spec: InputSpec, *images: str) -> None:
    undecodable = Undecodable(cache, spec)
    for image in images:
        undecodable.add(image, CUT)
    undecodable.save()


def test_what_failed_is_known_the_next_time(cache) -> None:
    remember(cache, SPEC, "a", "b")
    assert Undecodable(cache, SPEC).among(["c", "b"]) == {"b": "cut short"}


def test_what_is_not_the_images_fault_is_tried_again(cache) -> None:
    undecodable = Undecodable(cache, SPEC)
    undecodable.add("a", Failure("a.jpg", REPLACED, 0, lasting=False))
    undecodable.save()
    assert Undecodable(cache, SPEC).among(["a"]) == {}
    assert not cache.undecodable.exists()


def test_another_pillow_and_another_decode_rule_try_again(cache, monkeypatch) -> None:
    remember(cache, SPEC, "a")
    scaled = replace(SPEC, decode="scaled" if SPEC.decode == "exact" else "exact")
    assert Undecodable(cache, scaled).among(["a"]) == {}
    assert Undecodable(cache, replace(SPEC, width=64)).among(["a"])  # a size is no matter
    monkeypatch.setattr(PIL, "__version__", "99")
    assert Undecodable(cache, SPEC).among(["a"]) == {}


def test_what_another_process_adds_meanwhile_is_kept(cache) -> None:
    one = Undecodable(cache, SPEC)
    one.add("a", CUT)
    remember(cache, SPEC, "b")
    one.save()
    assert set(Undecodable(cache, SPEC).among("abc")) == {"a", "b"}


@pytest.mark.parametrize("content", ["{", "[]", "null", '"a"', '{"pillow": ["a"]}'])
def test_a_damaged_memory_is_an_empty_one(cache, content) -> None:
    remember(cache, SPEC, "a")
    cache.undecodable.write_text(content)
    assert Undecodable(cache, SPEC).among(["a"]) == {}
    remember(cache, SPEC, "b")
    assert Undecodable(cache, SPEC).among(["a", "b"]) == {"b": "cut short"}


def test_clearing_the_cache_forgets_it(cache) -> None:
    remember(cache, SPEC, "a")
    cache.clear()
    assert Undecodable(cache, SPEC).among(["a"]) == {}
