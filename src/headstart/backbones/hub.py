"""Where the weights of timm's networks lie on this machine, and when they may be downloaded.

The caches of the Hugging Face hub and of torch.hub are looked through without asking any server.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import torch

from headstart.errors import MissingWeights

__all__ = ["cached_file", "downloading"]

_FILE = "pytorch_model.bin"  # timm's default name; a .safetensors file beside it is preferred
_SAFE = {
    _FILE: "model.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}


def cached_file(config: Mapping[str, Any]) -> Path | None:
    """Return the file of a ``pretrained_cfg`` that an earlier download left, if there is one."""
    from huggingface_hub import constants, try_to_load_from_cache

    if config.get("hf_hub_id"):
        repository, _, revision = config["hf_hub_id"].partition("@")
        name = config.get("hf_hub_filename") or _FILE
        for candidate in (_SAFE.get(name, name.replace(".bin", ".safetensors")), name):
            found = try_to_load_from_cache(
                repository, candidate, cache_dir=constants.HF_HUB_CACHE, revision=revision or None
            )
            if isinstance(found, str):
                return Path(found)
    if config.get("url"):
        file = _torch_folder() / PurePosixPath(urlparse(config["url"]).path).name
        if file.is_file() and file.suffix != ".npz":  # .npz: another framework's names
            return file
    return None


@contextmanager
def downloading(full_name: str, config: Mapping[str, Any]) -> Iterator[None]:
    """Turn a download that is forbidden, impossible or fails into ``MissingWeights``."""
    from huggingface_hub import constants

    if not (config.get("hf_hub_id") or config.get("url")):
        raise MissingWeights(
            f"There are no pre-trained weights for {full_name}.",
            field="backbone",
            hint="Choose another network, or give your own with --weights FILE.",
        )
    if constants.HF_HUB_OFFLINE:
        raise _missing(full_name, config, "HF_HUB_OFFLINE forbids to download them")
    try:
        _reach(constants.ENDPOINT if config.get("hf_hub_id") else config["url"])
        yield
    except OSError as error:  # those of huggingface_hub and of urllib are all of this kind
        reason = (str(error.strerror or error).splitlines() or [type(error).__name__])[0]
        raise _missing(
            full_name, config, f"they can't be downloaded: {reason.rstrip('.')}"
        ) from error


def _reach(address: str) -> None:
    """Fail at once where there is no network; huggingface_hub tries for most of a minute."""
    if getproxies():
        return  # only the proxy knows
    url = urlparse(address)
    port = url.port or {"http": 80}.get(url.scheme, 443)
    socket.create_connection((url.hostname, port), timeout=10).close()


def _missing(full_name: str, config: Mapping[str, Any], reason: str) -> MissingWeights:
    from huggingface_hub import constants

    if config.get("hf_hub_id"):
        repository = config["hf_hub_id"].partition("@")[0]
        folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
        command = f"hf download {repository}"
    else:
        folder = _torch_folder()
        command = f"curl -LO {config['url']}"
    return MissingWeights(
        f"The weights of {full_name} are not in {folder}, and {reason}.",
        field="backbone",
        hint=f"Fetch them where there is a network: {command}\nThen copy them to that folder; or "
        "give a file with --weights FILE.",
    )


def _torch_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"
