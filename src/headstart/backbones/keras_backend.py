"""Keras, started on PyTorch: imported only when a network of Keras's is asked for.

Keras reads ``KERAS_BACKEND`` once, when it is first imported, and can't be changed after that.
Where the variable is not set it is set to ``torch`` for the time of the import, which counts more
than a backend in the user's keras.json; a choice that the user made there for other programs stays.
A backend that the user chose in the variable, or that Keras already runs on, is never overruled.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from headstart.errors import MissingExtra, UsageError

__all__ = ["building", "load_keras"]

_VARIABLE = "KERAS_BACKEND"
_TORCH = "torch"


def load_keras(wanted_by: str) -> ModuleType:
    """Import Keras on its torch backend.

    Args:
        wanted_by: What needs it, in the user's words.

    Raises:
        UsageError: Another backend was chosen, Keras runs on another already, or can't be imported
            for want of something else.
        MissingExtra: Keras is not installed.
    """
    chosen = os.environ.get(_VARIABLE)
    if chosen and chosen != _TORCH and "keras" not in sys.modules:
        raise UsageError(
            f"{wanted_by} needs Keras's torch backend, and {_VARIABLE} is {chosen!r}.",
            field=_VARIABLE,
            hint=f"Unset {_VARIABLE} for headstart, or set it: {_VARIABLE}={_TORCH} headstart …",
        )
    try:
        os.environ[_VARIABLE] = _TORCH
        import keras
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "keras":
            raise MissingExtra(wanted_by, "keras", field="backbone") from error
        raise UsageError(
            f"{wanted_by} needs Keras, which is installed and can't be imported: {error}.",
            field="backbone",
            hint='Install what it needs: pip install --upgrade "headstart[keras]"',
        ) from error
    finally:
        _restore(chosen)
    running = keras.config.backend()
    if running != _TORCH:
        raise UsageError(
            f"{wanted_by} needs Keras's torch backend, and Keras was imported on {running!r} "
            "before; that can't be changed in a running program.",
            field=_VARIABLE,
            hint=f"Set {_VARIABLE}={_TORCH} before anything imports Keras.",
        )
    module: ModuleType = keras
    return module


def _restore(chosen: str | None) -> None:
    if chosen is None:
        del os.environ[_VARIABLE]
    else:
        os.environ[_VARIABLE] = chosen


@contextmanager
def building(keras: ModuleType, seed: int = 0) -> Iterator[None]:
    """Build networks as their authors did, whatever the user's keras.json says.

    Inside, images have their channels last, numbers are float32 and on the processor, and weights
    are drawn from ``seed``. Python's generator, from which Keras takes its seeds, comes back as it
    was.
    """
    config = keras.config
    before = (config.image_data_format(), config.floatx(), config.dtype_policy())
    state = random.getstate()
    random.seed(seed)
    config.set_image_data_format("channels_last")
    config.set_floatx("float32")
    config.set_dtype_policy("float32")
    try:
        with keras.device("cpu"):
            yield
    finally:
        config.set_image_data_format(before[0])
        config.set_floatx(before[1])
        config.set_dtype_policy(before[2])
        random.setstate(state)
