"""How near the parts of a split are to the shares they should have, while they are filled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from headstart.data.splits.units import Unit

__all__ = ["Balance"]


class Balance:
    """Units in parts, and what each part still lacks of every class and in all.

    How far a part is from its shares is measured by the squared difference between the images that
    it has and those it should have, over their number: of each class, and of all together, which
    count as a class of mean size.

    Args:
        units: What is put into parts, by number.
        labels: The label of every item that units hold positions of.
        shares: What each part should have of every class; they sum to 1.
    """

    def __init__(
        self, units: Sequence[Unit], labels: Sequence[str], shares: Sequence[float]
    ) -> None:
        # Sorted, because sums of floats depend on their order, and the order of a listing must not.
        self.counts = [Counter(sorted(labels[index] for index in unit)) for unit in units]
        self.units_with = Counter(label for count in self.counts for label in count)
        self.place: dict[int, int] = {}
        self._sizes = Counter(labels[index] for unit in units for index in unit)
        self._total = sum(self._sizes.values())
        self._room = [
            {label: share * size for label, size in self._sizes.items()} for share in shares
        ]
        self._room_in_all = [share * self._total for share in shares]
        self._holds: list[Counter[str]] = [Counter() for _ in shares]

    def cost(self, part: int, unit: int) -> float:
        """Return how much farther from its shares a part would be with a unit; below 0, nearer."""
        size = self.counts[unit].total()
        mean = self._total / len(self._sizes)
        return self.class_cost(part, unit) + size * (size - 2 * self._room_in_all[part]) / mean

    def class_cost(self, part: int, unit: int) -> float:
        """Return the same of the classes alone, whatever the size of the part."""
        room = self._room[part]
        return sum(
            n * (n - 2 * room[label]) / self._sizes[label] for label, n in self.counts[unit].items()
        )

    def relief(self, unit: int) -> float:
        """Return how much farther from its shares a unit's part would be without it."""
        part, size = self.place[unit], self.counts[unit].total()
        mean = self._total / len(self._sizes)
        room = self._room[part]
        return size * (size + 2 * self._room_in_all[part]) / mean + sum(
            n * (n + 2 * room[label]) / self._sizes[label] for label, n in self.counts[unit].items()
        )

    def put(self, part: int, unit: int) -> None:
        """Put a unit into a part, out of the one it was in."""
        if unit in self.place:
            self._add(self.place[unit], unit, -1)
        self._add(part, unit, 1)
        self.place[unit] = part

    def holding(self, part: int, label: str) -> int:
        """Return how many of the part's units have an image of this class."""
        return self._holds[part][label]

    def _add(self, part: int, unit: int, sign: int) -> None:
        for label, n in self.counts[unit].items():
            self._room[part][label] -= sign * n
            self._holds[part][label] += sign
        self._room_in_all[part] -= sign * self.counts[unit].total()
