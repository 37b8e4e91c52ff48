from __future__ import annotations

import hashlib
import io
from email.message import Message

import pytest
import torch
from huggingface_hub import constants

from headstart.backbones import hub
from headstart.backbones.hub import cached_file, check_hash, download, downloading
from headstart.errors import HeadstartError, MissingWeights, ModelError

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
    fetch, command, then = error.hint.splitlines()
    assert fetch.endswith("headstart models fetch timm:tiny.a1_in1k")
    assert "hf download timm/tiny.a1_in1k" in command
    assert then.startswith("Then copy the whole folder to that place")
    assert "--weights" in error.hint
    assert len(str(error).splitlines()) <= 5


def test_weights_of_a_plain_address_are_fetched_from_there(caches, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = fail("timm:tiny", {"url": HUB["url"]})
    assert str(caches / "torch" / "checkpoints") in error.message
    assert "headstart models fetch timm:tiny\n" in error.hint
    assert f"curl -L -o tiny-1234.pth {HUB['url']}" in error.hint
    assert "copy tiny-1234.pth to that folder" in error.hint


def test_the_file_is_called_as_it_must_lie_there(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = fail("timm:tiny", {"url": "https://example.org/files/tiny-1234.pth?download=1"})
    assert "curl -L -o tiny-1234.pth https://example.org/files/tiny-1234.pth?download=1" in (
        error.hint
    )


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


# --- downloading -----------------------------------------------------------------------------

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def server(monkeypatch):
    """Answer every request with ``CONTENT``, and remember the addresses."""
    asked = []

    class Answer(io.BytesIO):
        def info(self):
            return Message()

    def answer(request, **_):
        asked.append(request.full_url)
        return Answer(CONTENT)

    monkeypatch.setattr(torch.hub, "urlopen", answer)
    return asked


@pytest.mark.parametrize("name", [f"net-{DIGEST}.pth", "net.pth"])
def test_a_download_lies_where_torch_hub_keeps_it(caches, server, name):
    url = f"https://example.org/models/{name}"
    file = download("torchvision:net", url)
    assert file == caches / "torch" / "checkpoints" / name
    assert file.read_bytes() == CONTENT
    assert cached_file({"url": url}) == file
    assert server == [url]


def test_a_download_of_another_content_than_its_name_says_is_refused(caches, server):
    with pytest.raises(ModelError, match="is not the weights of torchvision:net") as caught:
        download("torchvision:net", "https://example.org/net-0123abcd.pth")
    assert caught.value.hint
    assert list((caches / "torch" / "checkpoints").iterdir()) == []


def test_offline_nothing_is_downloaded(caches, server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeights, match="HF_HUB_OFFLINE"):
        download("torchvision:net", "https://example.org/net-0123abcd.pth")
    assert server == []
    assert not (caches / "torch").exists()


@pytest.mark.parametrize("name", [f"net-{DIGEST}.pth", "net.pth", "net-large.pth"])
def test_a_cached_file_is_held_to_the_hash_in_its_name(caches, name):
    file = in_torch(caches, name)
    file.write_bytes(CONTENT)
    check_hash(file)


@pytest.mark.parametrize("content", [b"other weights", CONTENT[:-1], b""])
def test_a_cached_file_of_another_content_is_named(caches, content):
    file = in_torch(caches, f"net-{DIGEST}.pth")
    file.write_bytes(content)
    with pytest.raises(ModelError, match="is not what its name says") as caught:
        check_hash(file)
    assert str(file) in caught.value.message
    assert "Delete it" in caught.value.hint


def test_a_cached_file_that_can_not_be_read_is_named(caches):
    file = in_torch(caches, f"net-{DIGEST}.pth")
    file.unlink()
    with pytest.raises(ModelError, match=f"net-{DIGEST}.pth can't be read"):
        check_hash(file)
