"""accelerate's Accelerator, made anew for each phase."""

from __future__ import annotations

from typing import Any

import torch

from headstart.training.device import InferencePath

__all__ = ["make_accelerator"]


def make_accelerator(path: InferencePath) -> Any:
    """Return accelerate's Accelerator for a path's device and precision."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # It keeps its settings for the whole process, and refuses others: each phase starts anew.
    AcceleratorState._reset_state(reset_partial_state=True)
    kind, _, number = path.device.partition(":")
    if kind == "cuda":  # accelerate takes the present one
        torch.cuda.set_device(int(number or 0))
    return Accelerator(
        cpu=kind == "cpu", mixed_precision="bf16" if path.precision == "bf16" else "no"
    )
