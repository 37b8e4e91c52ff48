"""Contract 3: what is remembered changes no number that is learnt.

The same phase from a cold cache, from a warm one, and with a cache that has no room, so that each
step computes the frozen blocks anew: the same losses, in fp32, to 1e-5.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import headstart
from headstart.cache import Cache
from headstart.files import file_digest
from pictures import write_photos


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos", each=14, side=40)


def fit(data: Path, out: Path, cache: Path, small: dict, **more):
    options = small | {
        "strategy": "last-blocks:1",
        "size": 32,
        "epochs": 4,
        "batch_size": 8,
    }
    return headstart.fit(data, out, cache=Cache(cache), **options | more)


AUGMENTED = {"augment": "standard", "views": 2}


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["event"] == "step"]


def computed(run: Path) -> int:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return sum(line["computed"] for line in lines if line["event"] == "views")


@pytest.mark.parametrize("images", [AUGMENTED, {"augment": "none"}], ids=["augmented", "plain"])
def test_cold_warm_and_without_a_boundary_learn_the_same(
    images, data, small, tmp_path, monkeypatch
):
    cold = fit(data, tmp_path / "cold", tmp_path / "cache", small, **images)
    warm = fit(data, tmp_path / "warm", tmp_path / "cache", small, **images)
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "0")
    none = fit(data, tmp_path / "none", tmp_path / "small", small, **images)

    records = [fitted.report.training[-1] for fitted in (cold, warm, none)]
    assert [record["boundary"] > 0 for record in records] == [True, True, False]
    assert len({record["views"] for record in records}) == 1
    assert computed(cold.folder) == 20 * (3 if images is AUGMENTED else 1)
    assert computed(warm.folder) == computed(none.folder) == 0

    assert losses(warm.folder) == losses(cold.folder)
    assert file_digest(warm.folder / "model" / "model.safetensors") == file_digest(
        cold.folder / "model" / "model.safetensors"
    )
    assert len(losses(none.folder)) == 12
    assert losses(none.folder) == pytest.approx(losses(cold.folder), abs=1e-5)
    for part in ("val", "test"):
        found, expected = (getattr(run.report, part)["log_loss"].value for run in (none, cold))
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_cache_that_is_cleared_midway_changes_nothing(data, small, tmp_path):
    whole = fit(data, tmp_path / "whole", tmp_path / "cache", small, **AUGMENTED)
    cache = Cache(tmp_path / "other")

    def clear(event: dict) -> None:
        if event["event"] == "epoch" and event["epoch"] == 2:
            cache.clear()

    cleared = fit(data, tmp_path / "cleared", cache.folder, small, listener=clear, **AUGMENTED)
    assert losses(cleared.folder) == losses(whole.folder)
    assert file_digest(cleared.folder / "model" / "model.safetensors") == file_digest(
        whole.folder / "model" / "model.safetensors"
    )
