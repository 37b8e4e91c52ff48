"""What the report keeps of a phase that did not change the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.strategy.phase import Phase, Train

__all__ = ["gone_back", "skipped"]


def skipped(number: int, phase: Phase, reason: str) -> dict[str, Any]:
    """Return the record of a phase that was left out.

    Args:
        number: Of the phase, from 1.
        phase: What it would have done: to train.
        reason: Why it was left out, in words.
    """
    assert isinstance(phase.fit, Train)
    return {
        "phase": number,
        "kind": "train",
        "epochs": [],
        "kept": "the weights before it",
        "best_epoch": None,
        "monitor": phase.fit.monitor,
        "stopped": None,
        "skipped": reason,
        "seconds": 0.0,
    }


def gone_back(record: Mapping[str, Any]) -> bool:
    """Return whether a phase's record says that the weights are those before it."""
    return "skipped" in record or not record.get("keep", {"kept": True})["kept"]
