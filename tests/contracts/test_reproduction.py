"""Contract 5: same seed, same machine, same thread count, same bytes; cold or warm."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import headstart
from commands import EXTRACTION
from headstart.cache import Cache
from headstart.files import file_digest, read_json
from pictures import write_photos

OPTIONS = {"strategy": "feature-extraction", "batch_size": 8}  # as those of ``command``


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Twelve pictures of each of two classes."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos", each=12)


def command(data: Path, folder: Path, cache: Path) -> Path:
    """Run ``headstart fit`` as a process of its own, with its own choice of precision."""
    options = [*EXTRACTION, "--batch-size", "8", "--json"]
    arguments = ["fit", str(data), "--out", str(folder), *options]
    subprocess.run(
        [sys.executable, "-m", "headstart", *arguments],
        env=os.environ | {"HEADSTART_CACHE": str(cache)},
        cwd=data.parent,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder


def weights(folder: Path) -> str:
    return file_digest(folder / "model" / "model.safetensors")


def computed(folder: Path) -> int:
    lines = map(json.loads, (folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return next(line["computed"] for line in lines if line["event"] == "features")


@pytest.fixture(scope="module")
def first(data, tmp_path_factory) -> Path:
    """A run of a process of its own, on an empty cache."""
    folder = tmp_path_factory.mktemp("first")
    return command(data, folder / "run", folder / "cache")


@pytest.mark.slow
def test_two_processes_write_the_same_weights_from_cold_caches(first, data, tmp_path):
    second = command(data, tmp_path / "second", tmp_path / "cache")

    assert computed(first) == computed(second) == 24
    assert weights(first) == weights(second)
    for name in ("model/headstart.json", "model/config.json", "predictions.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.slow
def test_a_warm_cache_gives_them_too(first, data, tmp_path):
    cache = Cache(first.parent / "cache")
    again = headstart.fit(data, tmp_path / "again", cache=cache, **OPTIONS)

    assert computed(again.folder) == 0
    assert weights(again.folder) == weights(first)
    results = [read_json(folder / "report.json") for folder in (first, again.folder)]
    for part in ("val", "test", "confusion", "split"):
        assert results[0][part] == results[1][part]


@pytest.mark.slow
def test_what_else_the_cache_holds_changes_nothing(first, data, tmp_path):
    cache = Cache(tmp_path / "cache")
    half = write_photos(tmp_path / "half", each=5)
    headstart.fit(half, tmp_path / "before", cache=cache, **OPTIONS)

    part_warm = headstart.fit(data, tmp_path / "part-warm", cache=cache, **OPTIONS)

    assert computed(part_warm.folder) == 14
    assert weights(part_warm.folder) == weights(first)


def test_the_place_of_the_data_changes_nothing(data, small, tmp_path):
    shutil.copytree(data, tmp_path / "elsewhere" / "photos")
    folders = []
    for number, place in enumerate((data, tmp_path / "elsewhere" / "photos")):
        fitted = headstart.fit(place, tmp_path / str(number), **small)
        folders.append(fitted.folder)
    assert weights(folders[0]) == weights(folders[1])
    assert (
        read_json(folders[0] / "spec.json")["spec"] == read_json(folders[1] / "spec.json")["spec"]
    )


def test_chance_drawn_elsewhere_changes_nothing(data, small, tmp_path):
    folders = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            fitted = headstart.fit(data, tmp_path / str(seed), **small)
            assert torch.equal(torch.get_rng_state(), before)
        folders.append(fitted.folder)
    assert weights(folders[0]) == weights(folders[1])


def test_another_seed_is_another_split_and_other_weights(data, small, tmp_path):
    runs = [headstart.fit(data, tmp_path / str(seed), **small, seed=seed) for seed in (0, 1)]
    assert runs[0].report.split["digest"] != runs[1].report.split["digest"]
    assert weights(runs[0].folder) != weights(runs[1].folder)


def test_a_run_that_is_done_is_not_done_again(data, small, tmp_path):
    folder = headstart.fit(data, tmp_path / "run", **small).folder
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = headstart.fit(data, tmp_path / "run", **small)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert again.folder == folder
