"""The commands cache list and cache clear."""

from __future__ import annotations


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


def test_a_wrong_size_of_the_cache_is_told(command, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "a lot")
    assert "HEADSTART_CACHE_SIZE" in command("cache", "list").err
