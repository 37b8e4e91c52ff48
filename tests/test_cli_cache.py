"""The commands cache list and cache clear."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from headstart.cache import Cache
from headstart.cli_cache import cache_table


def test_the_cache_tells_what_it_holds_and_forgets_it(
    command, own_cache, photos, tiny_network, tmp_path
):
    assert command("cache", "list", "--json").document["stores"] == []
    command("embed", photos, "--out", tmp_path / "f.npz", *tiny_network)
    document = command("cache", "list", "--json").document
    assert document["folder"] == str(own_cache)
    (store,) = document["stores"]
    assert (store["rows"], store["bytes"]) == (72, 72 * 96 * 4)
    text = command("cache", "list").out
    assert str(own_cache) in text
    assert "72 rows" in text
    assert "timm:test_resnet 64 x 64" in text
    assert command("cache", "clear", "--json").document["freed"] == 72 * 96 * 4
    assert command("cache", "list", "--json").document["stores"] == []
    assert "freed 0.0 MB" in command("cache", "clear").out


def test_the_cache_tells_what_was_in_zip_files_and_forgets_it(
    command, own_cache, photos, tiny_network, tmp_path
):
    file = shutil.make_archive(str(tmp_path / "pets"), "zip", photos)
    assert command("embed", file, "--out", tmp_path / "f.npz", *tiny_network).code == 0
    document = command("cache", "list", "--json").document
    (archive,) = document["archives"]
    size = sum(path.stat().st_size for path in photos.rglob("*.jpg"))
    assert (archive["files"], archive["bytes"]) == (72, size)
    assert archive["folder"].startswith(str(own_cache / "archives"))
    text = command("cache", "list").out
    assert f"{size / 1e6:.1f} MB unpacked from zip files" in text
    assert re.search(r"72 files .* pets$", text, re.MULTILINE)
    rows = document["stores"][0]["bytes"]
    assert command("cache", "clear", "--json").document["freed"] == rows + size
    assert command("cache", "list", "--json").document["archives"] == []
    assert "zip" not in command("cache", "list").out


def test_downloads_are_shown_and_stay(command, own_cache):
    assert command("cache", "list", "--json").document["downloads"] == []
    files = own_cache / "torchvision" / "dtd"
    (files / "images").mkdir(parents=True)
    (files / "images" / "1.jpg").write_bytes(bytes(1_200_000))
    (files.parent / "dtd.tar.gz").write_bytes(bytes(300_000))
    found = command("cache", "list", "--json").document["downloads"]
    assert {(Path(it["folder"]).name, it["files"], it["bytes"]) for it in found} == {
        ("dtd", 1, 1_200_000),
        ("dtd.tar.gz", 1, 300_000),
    }
    text = command("cache", "list").out
    assert f"{own_cache / 'torchvision'}: 1.5 MB downloaded; cache clear leaves it" in text
    assert re.search(r"1 files +1\.2 MB .* dtd$", text, re.MULTILINE)
    assert command("cache", "clear", "--json").document["freed"] == 0
    assert len(command("cache", "list", "--json").document["downloads"]) == 2


def test_a_wrong_size_of_the_cache_is_told(command, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "a lot")
    assert "HEADSTART_CACHE_SIZE" in command("cache", "list").err


def test_the_cache_is_shown_with_the_last_used_first(tmp_path):
    cache = Cache(tmp_path)
    path = {"precision": "bf16"}
    for number, name in enumerate(("timm:old", "timm:new")):
        spec = {"height": 224, "width": 160, "resize": "pad"}
        key = {"what": "features", "backbone": name, "input": spec, "path": path, "view": "plain"}
        store = cache.store(key, (8,), "float32")
        with store.writer() as writer:
            writer.add(["a", "b"], np.full((2, 8), number))
    stores = cache.stores()
    lines = cache_table(tmp_path, 20 * 10**9, stores)
    assert lines[0] == f"{tmp_path}: 0.0 MB of at most 20.0 GB"
    assert "timm:new 224 x 160 pad bf16" in lines[1]
    assert "2 rows" in lines[1]
    assert "timm:old" in lines[2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"what": "pixels"}, "pixels 224 x 160 pad"),
        ({"what": "features", "view": "plain"}, "timm:new 224 x 160 pad bf16"),
        (
            {"what": "features", "view": "symmetry flip"},
            "timm:new 224 x 160 pad bf16 symmetry flip",
        ),
        (
            {"what": "boundary", "view": "plain", "cut": 16},
            "timm:new 224 x 160 pad bf16 behind 16 blocks, plain",
        ),
        (
            {"what": "boundary", "view": {"view": 3, "seed": 0}, "cut": 16},
            "timm:new 224 x 160 pad bf16 behind 16 blocks, view 3",
        ),
    ],
)
def test_each_kind_of_store_says_what_it_holds(tmp_path, changes, words):
    spec = {"height": 224, "width": 160, "resize": "pad"}
    key = {"backbone": "timm:new", "input": spec, "path": {"precision": "bf16"}} | changes
    cache = Cache(tmp_path)
    with cache.store(key, (8,), "float32").writer() as writer:
        writer.add(["a"], np.zeros((1, 8)))
    assert cache_table(tmp_path, 20 * 10**9, cache.stores())[1].endswith(f"  {words}")
