"""Classes of train, val and test are matched by name: what train lacks can't be asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from headstart.data.quoting import listed
from headstart.errors import DataError

__all__ = ["require_learnt"]


def require_learnt(
    learnt: Collection[str], held: Mapping[str, Collection[str]], *, where: str, field: str
) -> None:
    """Refuse parts with classes that train lacks.

    Args:
        learnt: The classes of train.
        held: The classes of every other part, by its name.
        where: What has these parts.
        field: The field of the error.

    Raises:
        DataError: A part has others, with the classes of both.
    """
    for part, labels in held.items():
        extra = sorted(set(labels) - set(learnt))
        if not extra:
            continue
        twins = {name.casefold(): name for name in sorted(learnt)}
        twin = next((name for name in extra if name.casefold() in twins), None)
        hint = (
            f"Every class of {part} must be one that train has a readable image of: rename or "
            "remove the others."
        )
        if twin is not None:
            hint = f"{twin} and {twins[twin.casefold()]} differ only in case: rename one."
        raise DataError(
            f"{where}: {part} has classes that train lacks: {listed(extra)}.\n"
            f"train: {listed(sorted(learnt))}\n{part}: {listed(sorted(labels))}",
            field=field,
            hint=hint,
        )
