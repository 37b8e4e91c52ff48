"""What a study tells: its answer, and its README.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from headstart.comparison import Group, Pair
from headstart.markup import spoken_seconds

if TYPE_CHECKING:
    from headstart.study import Reached, Result

__all__ = ["answers", "markdown"]

_ALPHA = 0.05


def markdown(result: Result) -> str:
    """Return README.md: question, answer, figure, table, verdicts and setup."""
    return "\n".join(_lines(result)) + "\n"


def answers(result: Result) -> Iterator[str]:
    """Yield the sentences that a study's verdicts allow."""
    study, comparison, reached = result.study, result.comparison, result.reached
    bases = [group.label for group in comparison.summary if group.strategy == study.baseline]
    if not bases:
        yield f"No answer: {study.baseline} did not finish."
    for base in bases:
        better, worse, open_ = _against(base, comparison.pairs)
        if better:
            yield f"Better than {base}: {', '.join(better)}."
        if worse:
            yield f"Worse than {base}: {', '.join(worse)}."
        if open_:
            yield f"Not to be told apart from {base}: {', '.join(open_)}."
    there = [it for it in reached if it.seconds is not None]
    if there:
        times = [f"{it.label} after {spoken_seconds(it.seconds or 0.0)}" for it in there]
        yield f"As good on val as {study.baseline} ever was: {', '.join(times)}."
    if comparison.best_on_val is not None:
        chosen = comparison.best_on_val
        share = f"{100 * (chosen.accuracy.value or 0.0):.1f} %"
        yield f"Val would choose {chosen.label}, which is right on {share} of test."


def _against(base: str, pairs: Sequence[Pair]) -> tuple[list[str], list[str], list[str]]:
    """Return who is better than ``base``, worse, and not to be told apart."""
    better: list[str] = []
    worse: list[str] = []
    open_: list[str] = []
    for pair in pairs:
        if base not in (pair.a, pair.b):
            continue
        other = pair.b if pair.a == base else pair.a
        by = f"{other} (by {100 * pair.difference:.1f} points)"
        if pair.p_value > _ALPHA:
            open_.append(other)
        else:
            (worse if pair.a == base else better).append(by)
    return better, worse, open_


def _lines(result: Result) -> Iterator[str]:
    """Yield the lines of the study's README.md."""
    study, it = result.study, result.comparison
    split, machine = it.setup["split"], it.setup["machine"]
    yield from (f"# {study.title}", "", f"**{study.question}**", "", result.answer, "")
    yield f"Look at {study.look_at}."
    yield from ("", "![accuracy against time](figures/accuracy-time.png)", "")
    yield from _table(it.by_val, result.reached)
    yield from ("", "Accuracy with its 95 % interval over images and seeds; mean time of a run.")
    yield from ("", "## Pairs", "")
    yield from (f"- {pair.verdict}" for pair in it.pairs)
    failed = [row for row in it.rows if row.failed is not None]
    if failed:
        yield from ("", "## Failed", "")
        yield from (f"- {row.strategy}, seed {row.seed}: {row.failed}" for row in failed)
    yield from ("", "## Setup", "")
    seeds = ", ".join(str(seed) for seed in range(it.setup["seeds"]))
    options = ", ".join(f"{name} {value}" for name, value in it.setup["options"].items())
    yield (
        f"- data: {it.data}; train {split['n_train']:,}, val {split['n_val']:,}, test "
        f"{split['n_test']:,} (split {split['digest'][:12]})"
    )
    yield f"- backbones: {', '.join(dict.fromkeys(row.backbone for row in it.rows))}"
    yield f"- seeds: {seeds}; options: {options or 'the defaults'}"
    yield f"- machine: {machine['cpus']} CPU cores, runs on {machine['device']}"
    yield f"- command: `{it.command}`"
    yield f"- done {it.created}; all numbers in study.json, the page in comparison.html"


def _table(groups: Sequence[Group], reached: Sequence[Reached]) -> Iterator[str]:
    when = {it.label: it for it in reached}
    last = " as good on val as the baseline after |" if reached else ""
    yield f"| strategy | test accuracy | val | time | parameters trained |{last}"
    yield "|---|---|---|---|---|" + ("---|" if reached else "")
    for group in groups:
        test = group.accuracy
        interval = f"{test.value:.3f} ({test.low:.3f} to {test.high:.3f})"
        val = "–" if group.val_accuracy is None else f"{group.val_accuracy:.3f}"
        trained = "–" if group.trainable is None else f"{group.trainable:,} of {group.total:,}"
        cells = [group.label, interval, val, spoken_seconds(group.seconds), trained]
        if reached:
            it = when[group.label]
            time = "never" if it.seconds is None else spoken_seconds(it.seconds)
            cells.append(f"{time} ({it.reached} of {it.seeds} seeds)")
        yield f"| {' | '.join(cells)} |"
