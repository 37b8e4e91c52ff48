"""What headstart would do with some images, why, and what it would cost; nothing is trained."""

from __future__ import annotations

import time
from typing import Any

from headstart.auto import decide
from headstart.cache import Cache
from headstart.data.objects.in_memory import as_source
from headstart.decided_text import decided_lines
from headstart.fitting import Listener
from headstart.log import Log
from headstart.options import Options
from headstart.plan import Plan
from headstart.plan_text import data_lines
from headstart.planning import make_plan, with_choices

__all__ = ["proposal_lines", "propose"]


def propose(
    data: object,
    *,
    listener: Listener | None = None,
    cache: Cache | None = None,
    **options: Any,
) -> Plan:
    """Plan a fit, and measure what there is to decide, but train nothing.

    What was computed for it is remembered: a fit of the same images that follows has it already.

    Args:
        data: As for ``fit``.
        listener: Called with each event: stages, progress, each decision as it is made.
        cache: Where features are remembered; by default the user's cache folder.
        **options: The fields of ``headstart.options.Options``; where ``strategy`` is not ``auto``
            there is nothing to decide.

    Returns:
        The plan, with what was decided: ``lines()``, ``to_dict()``, and as ``asked`` the strategy.

    Raises:
        HeadstartError: Whatever makes a fit impossible before it begins.
    """
    start = time.monotonic()
    asked, cache, log = Options(**options), cache or Cache(), Log(listener)
    source = as_source(data, cache.given, asked.reading)
    log.emit("stage", stage="read")
    plan = make_plan(source, asked, cache=cache, progress=log.progress("read"))
    if plan.given is None:
        return plan
    log.emit("plan", lines=plan.lines())
    log.emit("stage", stage="choose")
    decided = decide(plan, cache=cache, log=log, spent=lambda: time.monotonic() - start)
    return with_choices(plan, decided, cache=cache)


def proposal_lines(plan: Plan) -> list[str]:
    """Return a plan as lines for people, with what was decided where there is anything."""
    if plan.decided is None:
        return plan.lines()
    return [*data_lines(plan), *decided_lines(plan), *plan.lines()]
