"""Studies: comparisons with a question, and an answer that their verdicts allow."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstart.cache import Cache
from headstart.comparing import compare
from headstart.comparison import Comparison, Group
from headstart.data.named import is_name
from headstart.data.objects.in_memory import as_source
from headstart.data.objects.kept import root_of
from headstart.data.reading import Reading
from headstart.errors import ModelError, UnknownName
from headstart.files import write_json, write_text
from headstart.lineup import safe_name
from headstart.log import Event
from headstart.strategy.phase import HEAD, Phase, Rate, Train
from headstart.strategy.strategy import Strategy
from headstart.study_text import answers, markdown

__all__ = ["Reached", "Result", "Study", "run_study", "studies", "val_curve"]

FORMAT = 1
_AGAIN = "Remove {} and give the same command again: it runs only what is missing."


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A prepared comparison.

    Attributes:
        name: What the command calls it.
        title: What people call it.
        question: What it is to answer.
        look_at: What to look at in its results.
        strategies: Who takes part.
        baseline: Name of the strategy that the others are held against.
        options: Options of every run, unless others are given.
        reach: Whether to measure when each run reaches the baseline's best accuracy on val.
    """

    name: str
    title: str
    question: str
    look_at: str
    strategies: tuple[str | Strategy, ...]
    baseline: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reach: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """When the runs of a group first were as good on val as the baseline ever was.

    Attributes:
        label: The group.
        seeds: How many runs there are whose seed the baseline finished too.
        reached: How many of them got there.
        seconds: Mean time it took those, since the run began; None where none got there.
    """

    label: str
    seeds: int
    reached: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished study; ``reached`` is empty where the study does not ask for it."""

    study: Study
    comparison: Comparison
    reached: tuple[Reached, ...]

    @property
    def answer(self) -> str:
        """What the verdicts allow to answer, in a few sentences."""
        return " ".join(answers(self))

    def to_dict(self) -> dict[str, Any]:
        """Return study.json's document."""
        return {
            "format": FORMAT,
            "study": self.study.name,
            "title": self.study.title,
            "question": self.study.question,
            "answer": self.answer,
            "reached": [asdict(reached) for reached in self.reached],
            "comparison": self.comparison.to_dict(),
        }


_EVERYTHING = Strategy(
    "everything-at-1e-5",
    (
        Phase(
            (Rate(HEAD, 1e-5), Rate("stage:0..-1", 1e-5)),
            Train(epochs=10, optimizer="adam", schedule="constant", weight_decay=0.0),
        ),
    ),
)

_STUDIES = (
    Study(
        name="transfer-or-scratch",
        title="Transfer or scratch?",
        question="What does pre-training buy on these images, in accuracy and in time?",
        look_at=(
            "the distance between scratch and everything else, and how soon the others are as "
            "good on val as scratch ever was"
        ),
        strategies=("scratch", "scratch:small-cnn", "feature-extraction", "fine-tune", "gradual"),
        baseline="scratch",
        reach=True,
    ),
    Study(
        name="extract-or-tune",
        title="Extract or tune?",
        question=(
            "With 500 training images and 10 epochs: train the head only, or everything at a "
            "learning rate of 1e-5?"
        ),
        look_at="whether the pair can be told apart, and what each epoch costs",
        strategies=("feature-extraction", _EVERYTHING),
        baseline=_EVERYTHING.name,
        options={"limit": 500, "epochs": 10},
    ),
)


def studies() -> tuple[Study, ...]:
    """Return all studies."""
    return _STUDIES


def run_study(
    name: str,
    data: object,
    *,
    out: str | Path | None = None,
    seeds: int = 3,
    listener: Callable[[Event], None] | None = None,
    cache: Cache | None = None,
    command: str | None = None,
    **options: Any,
) -> Result:
    """Run a study on some data; what is finished of it is not run again.

    Args:
        name: Which study.
        data: A folder, a table, a zip file, the name of a data set, or labelled images as Python
            objects (``docs/data.md``).
        out: The study's folder; by default ``studies/NAME-DATA``.
        seeds: Run everything with the seeds 0 to ``seeds`` - 1.
        listener: Called with each event, as ``compare`` does.
        cache: Where features are remembered; by default the user's cache folder.
        command: The command to show; by default the Python call.
        **options: The fields of ``headstart.options.Options``, before those of the study;
            ``backbones`` are networks as ``compare`` takes them.

    Raises:
        UnknownName: There is no such study.
        HeadstartError: Whatever ``compare`` raises.
    """
    study = next((study for study in _STUDIES if study.name == name), None)
    if study is None:
        raise UnknownName("study", name, [study.name for study in _STUDIES], field="study")
    cache = cache or Cache()
    asked = {key: options[key] for key in ("columns", "root", "test") if options.get(key)}
    source = as_source(data, cache.given, Reading(**asked))
    default = Path("studies") / f"{name}-{safe_name(_name_of(source, cache))}"
    folder = default if out is None else Path(out)
    comparison = compare(
        source,
        strategies=study.strategies,
        seeds=seeds,
        out=folder,
        listener=listener,
        cache=cache,
        command=command or f"headstart.study.run_study({name!r}, {str(source)!r})",
        **{**study.options, **options},
    )
    reached = tuple(_all_reached(study, comparison, folder)) if study.reach else ()
    result = Result(study=study, comparison=comparison, reached=reached)
    write_text(folder / "README.md", markdown(result))
    write_json(folder / "study.json", result.to_dict())
    return result


def val_curve(run: Path) -> list[tuple[float, float]]:
    """Read a run's accuracy on val over time from its log.jsonl.

    Returns:
        (seconds since the run began, accuracy) after each solved phase and each epoch.

    Raises:
        ModelError: There is no log, or a line is none of ours.
    """
    file = run / "log.jsonl"
    curve = []
    try:
        for line in file.read_text("utf-8").splitlines():
            event = json.loads(line)
            solved = event["event"] == "phase" and event.get("kind") == "solve"
            accuracy = (event.get("val") or {}).get("accuracy")
            if accuracy is not None and (solved or event["event"] == "epoch"):
                curve.append((event["seconds"], accuracy))
    except OSError as error:
        raise ModelError(
            f"{file} can't be read: {error.strerror}.", field=str(file), hint=_AGAIN.format(run)
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{file} is not the log of a run: {error!r}.", field=str(file), hint=_AGAIN.format(run)
        ) from error
    return curve


def _name_of(source: str | Path, cache: Cache) -> str:
    """Return what to call a source: all that was given as Python objects has one file name."""
    if is_name(source):
        return str(source)
    path = Path(os.path.abspath(source))  # noqa: PTH100 - "." gets a name, a link keeps its own
    if root_of(path, cache.given) is not None:
        return f"given-{path.parent.name[:8]}"
    return path.name or "data"


def _all_reached(study: Study, comparison: Comparison, folder: Path) -> Iterator[Reached]:
    """Hold every run against the best accuracy on val of the baseline's run of the same seed."""
    done = [row for row in comparison.rows if row.failed is None]
    curves = {(row.key, row.seed): val_curve(folder / row.run) for row in done}
    for group in comparison.summary:
        base = _baseline(study, comparison, group)
        goals = {
            seed: max(accuracy for _, accuracy in curve)
            for (key, seed), curve in curves.items()
            if key == base and curve
        }
        own = (group.strategy, group.backbone)
        runs = {seed: curves[own, seed] for seed in goals if (own, seed) in curves}
        first = [next((s for s, a in c if a >= goals[seed]), None) for seed, c in runs.items()]
        times = [seconds for seconds in first if seconds is not None]
        yield Reached(
            label=group.label,
            seeds=len(runs),
            reached=len(times),
            seconds=float(np.mean(times)) if times else None,
        )


def _baseline(study: Study, comparison: Comparison, group: Group) -> tuple[str, str] | None:
    """Return the baseline's key on the group's backbone, else on the first that it ran on."""
    keys = [
        (it.strategy, it.backbone) for it in comparison.summary if it.strategy == study.baseline
    ]
    return next((key for key in keys if key[1] == group.backbone), keys[0] if keys else None)
