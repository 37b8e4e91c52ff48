"""The commands cache list and cache clear."""

from __future__ import annotations

import re
import shutil


def test_the_cache_tells_what_it_holds_and_forgets_it(command, own_cache, photos, tiny, tmp_path):
    assert command("cache", "list", "--json").document["stores"] == []
    command("embed", photos, "--out", tmp_path / "f.npz", *tiny)
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
    command, own_cache, photos, tiny, tmp_path
):
    file = shutil.make_archive(str(tmp_path / "pets"), "zip", photos)
    assert command("embed", file, "--out", tmp_path / "f.npz", *tiny).code == 0
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


def test_a_wrong_size_of_the_cache_is_told(command, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "a lot")
    assert "HEADSTART_CACHE_SIZE" in command("cache", "list").err
