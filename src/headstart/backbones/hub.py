"""Where the weights of timm's and torchvision's networks lie here, and when they are downloaded.

The caches of the Hugging Face hub and of torch.hub are looked through without asking any server.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import torch

from headstart.errors import MissingWeights, ModelError
from headstart.files import file_digest

__all__ = ["cached_file", "check_hash", "download", "downloading"]

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


def download(full_name: str, url: str) -> Path:
    """Download a file to where torch.hub keeps it, and hold it to the hash in its name.

    Raises:
        MissingWeights: It is forbidden, impossible or fails.
        ModelError: What came is not what the name says.
    """
    file = _torch_folder() / PurePosixPath(urlparse(url).path).name
    hash_in_name = torch.hub.HASH_REGEX.search(file.name)
    with downloading(full_name, {"url": url}):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(
                url,
                str(file),
                hash_prefix=hash_in_name[1] if hash_in_name else None,
                progress=sys.stderr.isatty(),
            )
        except RuntimeError as error:
            raise ModelError(
                f"What {url} gave is not the weights of {full_name}: {error}.",
                field="backbone",
                hint="Try again; if it stays so, something between here and there changes files.",
            ) from error
    return file


def check_hash(file: Path) -> None:
    """Hold a file of torch.hub's cache to the hash in its name, if there is one.

    A file that lies elsewhere passes: there, what looks like a hash is a part of the name.

    Raises:
        ModelError: Its content has another, or it can't be read.
    """
    if file.parent != _torch_folder():
        return
    expected = torch.hub.HASH_REGEX.search(file.name)
    try:
        same = expected is None or file_digest(file).startswith(expected[1])
    except OSError as error:
        raise ModelError(f"{file} can't be read: {error.strerror}.", field=str(file)) from error
    if not same:
        raise ModelError(
            f"{file} is not what its name says: its SHA-256 is another.",
            field=str(file),
            hint="Delete it, and it is downloaded again; or give it with --weights.",
        )


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
        command, what = f"hf download {repository}", "the whole folder to that place"
    else:
        folder = config.get("folder") or _torch_folder()
        file = PurePosixPath(urlparse(config["url"]).path).name
        command, what = f"curl -L -o {file} {config['url']}", f"{file} to that folder"
    return MissingWeights(
        f"The weights of {full_name} are not in {folder}, and {reason}.",
        field="backbone",
        hint=f"Fetch them where there is a network: headstart models fetch {full_name}\n"
        f"(or: {command})\nThen copy {what}; or give a file with --weights FILE.",
    )


def _torch_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"
