from __future__ import annotations

import pytest
import torch
from huggingface_hub import constants

from headstart.backbones import hub
from headstart.backbones.hub import cached_file, downloading
from headstart.errors import HeadstartError, MissingWeights

HUB = {"hf_hub_id": "timm/tiny.a1_in1k", "url": "https://example.org/v1/tiny-1234.pth"}


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(hub, "_reach", lambda address: None)
    return tmp_path


def in_hub(folder, name, repository="timm--tiny.a1_in1k"):
    repository = folder / "hub" / f"models--{repository}"
    file = repository / "snapshots" / "abc" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text("abc")
    return file


def in_torch(folder, name):
    file = folder / "torch" / "checkpoints" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


def test_an_empty_cache_has_nothing(caches):
    assert cached_file(HUB) is None
    assert cached_file({}) is None
    assert list(caches.iterdir()) == []


def test_safe_files_are_preferred_and_the_hub_to_torch(caches):
    in_order = [
        in_torch(caches, "tiny-1234.pth"),
        in_hub(caches, "pytorch_model.bin"),
        in_hub(caches, "model.safetensors"),
    ]
    assert cached_file(HUB) == in_order.pop()
    in_hub(caches, "model.safetensors").unlink()
    assert cached_file(HUB) == in_order.pop()
    in_hub(caches, "pytorch_model.bin").unlink()
    assert cached_file(HUB) == in_order.pop()


def test_a_file_of_another_name_is_found(caches):
    config = {"hf_hub_id": "org/clip", "hf_hub_filename": "open_clip_pytorch_model.bin"}
    file = in_hub(caches, "open_clip_model.safetensors", "org--clip")
    assert cached_file(config) == file
    other = in_hub(caches, "special.safetensors", "org--clip")
    assert cached_file(config | {"hf_hub_filename": "special.bin"}) == other


def test_other_frameworks_files_don_t_count(caches):
    in_torch(caches, "vit.npz")
    assert cached_file({"url": "https://example.org/vit.npz"}) is None


def fail(full_name, config, error=None) -> HeadstartError:
    with pytest.raises(MissingWeights) as caught, downloading(full_name, config):
        raise error or AssertionError("the download was tried")
    return caught.value


def test_offline_is_said_at_once_with_the_cache_and_the_way_out(caches, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = fail("timm:tiny.a1_in1k", HUB)
    assert error.exit_code == 6
    assert "timm:tiny.a1_in1k" in error.message
    assert str(caches / "hub" / "models--timm--tiny.a1_in1k") in error.message
    assert "HF_HUB_OFFLINE" in error.message
    assert "hf download timm/tiny.a1_in1k" in error.hint
    assert "--weights" in error.hint
    assert len(str(error).splitlines()) <= 5


def test_weights_of_a_plain_address_are_fetched_from_there(caches, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = fail("timm:tiny", {"url": HUB["url"]})
    assert str(caches / "torch" / "checkpoints") in error.message
    assert HUB["url"] in error.hint


def test_a_failed_download_says_why():
    error = fail("timm:tiny.a1_in1k", HUB, OSError("no route to host\nand more"))
    assert "no route to host" in error.message
    assert "and more" not in error.message


@pytest.mark.parametrize(
    ("config", "host"),
    [(HUB, ("hub.test", 443)), ({"url": "http://files.test:8080/a.pth"}, ("files.test", 8080))],
)
def test_no_network_is_found_out_with_one_connection(config, host, monkeypatch):
    tried = []

    def connect(address, timeout):
        tried.append(address)
        raise OSError("Name or service not known")

    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.test")
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(hub.socket, "create_connection", connect)
    assert "can't be downloaded: Name or service" in fail("timm:tiny", config).message
    assert tried == [host]
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "proxy.test:3128"})
    fail("timm:tiny", config, OSError("proxy says no"))
    assert tried == [host]


def test_networks_without_weights_say_so():
    assert "no pre-trained weights for timm:tiny" in fail("timm:tiny", {}).message


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError), downloading("timm:tiny.a1_in1k", HUB):
        raise ZeroDivisionError
