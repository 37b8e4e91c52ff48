"""Which fold of a data set is test."""

from __future__ import annotations

import re
from dataclasses import dataclass

from headstart.errors import UsageError

__all__ = ["Fold"]


@dataclass(frozen=True, slots=True)
class Fold:
    """One of the folds that a data set is dealt into.

    Attributes:
        number: Which one is test, from 1 on.
        k: How many there are.
    """

    number: int
    k: int

    @classmethod
    def parse(cls, text: str) -> Fold:
        """Read ``2/5``, the second of five folds.

        Raises:
            UsageError: It is not of that form, or there is no such fold.
        """
        if not cls.fits(text):
            raise UsageError(
                f"A fold must be one of 2 or more, as 2/5, not {text!r}.",
                field="fold",
                hint="Write --fold 1/5 for the first of five, and so on up to --fold 5/5.",
            )
        number, k = map(int, text.split("/"))
        return cls(number, k)

    @staticmethod
    def fits(text: str) -> bool:
        """Tell whether there is such a fold."""
        if not re.fullmatch(r"[0-9]{1,6}/[0-9]{1,6}", text):
            return False
        number, k = map(int, text.split("/"))
        return k >= 2 and 1 <= number <= k

    def __str__(self) -> str:
        return f"{self.number}/{self.k}"
