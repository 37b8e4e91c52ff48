"""Going on with a run that was interrupted, where what it was made of is still the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from headstart.cache import Cache
from headstart.errors import ModelError
from headstart.fitting import Fitted, Listener, Walk
from headstart.log import Log
from headstart.options import Options
from headstart.plan import Plan
from headstart.run import Run

__all__ = ["resume"]

_SHOWN = 10  # lines of what has changed


def resume(
    folder: str | Path,
    *,
    listener: Listener | None = None,
    cache: Cache | None = None,
    force: bool = False,
) -> Fitted:
    """Go on with a run where it stopped; on a CPU the result is bit-equal to an uninterrupted run.

    A run that was stopped before anything of it was saved begins again.

    Args:
        folder: The run's folder.
        listener: Called with each event, as by ``fit``.
        cache: As for ``fit``.
        force: Go on although images were changed, added or removed; the report says so.

    Returns:
        As ``fit``; a finished run is returned as it is.

    Raises:
        ModelError: The folder holds no run, its data or options have changed, or no checkpoint is
            whole.
        ResourceError: Another process is writing the run.
    """
    run = Run(Path(folder))
    walk = _Resumed(run, Log(listener), cache or Cache(), force=force)
    if run.finished:
        return walk.done_already(run)
    torch.set_num_threads(run.environment()["threads"])
    return walk.run()


class _Resumed(Walk):
    """A fit in the folder of a run that was begun before.

    Args:
        begun: The run.
        log: Told of everything.
        cache: Where features are remembered.
        force: Whether changed images are accepted.
    """

    def __init__(self, begun: Run, log: Log, cache: Cache, *, force: bool) -> None:
        known = begun.invocation()
        options = Options.from_dict(known["options"])
        super().__init__(known["data"], begun.folder, options, log, cache, known["command"])
        self.begun = begun
        self.force = force

    def _open(self, plan: Plan) -> Run:
        """Return the run's folder, if the plan is still the run's.

        Raises:
            ModelError: It is not, and that was not accepted or can't be.
        """
        changed = self.begun.difference(plan.spec)
        fatal = [line for line in changed if not line.startswith(("data.", "split."))]
        if changed and (fatal or not self.force):
            raise _refused(self.begun, changed, fatal)
        self.changed = tuple(changed)
        return self.begun


def _refused(run: Run, changed: Sequence[str], fatal: Sequence[str]) -> ModelError:
    shown = "\n  ".join([*changed[:_SHOWN], *(["…"] if len(changed) > _SHOWN else [])])
    hint = "Restore it, or fit again into another folder."
    if not fatal:
        hint = "Restore the images, fit again into another folder, or go on with --force."
    return ModelError(
        f"{run.folder} can't go on: what it was made of has changed.\n  {shown}",
        field=str(run.folder),
        hint=hint,
    )
