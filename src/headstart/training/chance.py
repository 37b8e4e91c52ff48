"""Chance from explicit seeds: what is drawn is a function of its place, not of what ran before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from headstart.files import digest

__all__ = ["chance", "drawing"]


def chance(*parts: object) -> int:
    """Return a seed that is a function of the parts."""
    return int(digest(*map(str, parts))[:15], 16)


@contextmanager
def drawing(device: str, seed: int) -> Iterator[None]:
    """Let torch's generators start from ``seed`` inside, and be as before afterwards."""
    kind = device.partition(":")[0]
    if kind == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    if kind == "mps":  # has one device, and no place in fork_rng
        before = torch.mps.get_rng_state()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            torch.mps.manual_seed(seed)
            yield
        torch.mps.set_rng_state(before)
        return
    with torch.random.fork_rng(devices=[torch.device(device).index or 0]):
        torch.default_generator.manual_seed(seed)
        torch.cuda.manual_seed(seed)
        yield
