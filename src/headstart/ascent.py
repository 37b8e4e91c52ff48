"""The ladder of ``auto`` as it was climbed: what each step brought, and whether it stayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.decided import Decided
from headstart.training.record import gone_back

__all__ = ["ascent", "explained"]


def explained(
    decided: Decided, records: Sequence[Mapping[str, Any]], features_s: float
) -> dict[str, Any]:
    """Return what report.json has of a run that ``auto`` chose, as plain JSON.

    Args:
        decided: The decisions.
        records: What happened in each phase.
        features_s: Seconds of computing the features, which the first step needs.

    Returns:
        As ``Decided.explained``, and ``ladder``.
    """
    return {**decided.explained(), "ladder": ascent(decided, records, features_s)}


def ascent(
    decided: Decided, records: Sequence[Mapping[str, Any]], features_s: float
) -> list[dict[str, Any]]:
    """Return the steps that were taken: each with ``accuracy`` on val, ``seconds`` and ``kept``.

    ``accuracy`` is that of the step, kept or not; None where it was left out. ``predicted_s`` is
    what was said of its seconds before.
    """
    steps = []
    for record, predicted in zip(records, decided.seconds, strict=False):
        seconds = record["seconds"] + (features_s if record["kind"] == "solve" else 0.0)
        steps.append(
            {
                "phase": record["phase"],
                "accuracy": _accuracy(record),
                "seconds": round(seconds, 1),
                "predicted_s": None if predicted is None else round(predicted, 1),
                "kept": not gone_back(record),
            }
        )
    return steps


def _accuracy(record: Mapping[str, Any]) -> float | None:
    """Return the accuracy on val that a phase came to."""
    if "skipped" in record:
        return None
    if record["kind"] == "solve":
        return None if record["val"] is None else float(record["val"]["accuracy"])
    if "keep" in record:
        after = record["keep"]["accuracy_after"]
        return None if after is None else float(after)
    judged = [epoch["val"]["accuracy"] for epoch in record["epochs"] if epoch["val"] is not None]
    return max(judged, default=None)
