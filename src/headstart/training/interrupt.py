"""Signals during training: finish the step, save, then leave.

The first SIGINT or SIGTERM is remembered until the loop asks; a second one leaves at once, and
what was saved before stays whole, because every save is a rename.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

__all__ = ["Interruption"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which signals wait for the loop, and at the latest for the context's end.

    Outside the main thread signals are not ours.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that was not set from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
        if error is None and self.signal is not None:
            self.leave()

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            self.leave()
        self.signal = number

    def leave(self) -> NoReturn:
        """Leave as the first signal asked.

        Raises:
            KeyboardInterrupt: It was SIGINT.
            SystemExit: It was SIGTERM; the code is 143.
        """
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt
