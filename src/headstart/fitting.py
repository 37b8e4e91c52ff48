"""The main job: from labelled images to a classifier in a run folder, one step after the other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.bundle import timm_config
from headstart.cache import Cache, Rows
from headstart.card import model_card
from headstart.classifier import Classifier, load
from headstart.data.check import judge_failures
from headstart.data.read import Failure
from headstart.data.split import Split
from headstart.errors import DataError, GateMissed, ModelError, ResourceError
from headstart.files import write_json, write_text
from headstart.judging import probabilities
from headstart.log import Event, Log
from headstart.options import Options
from headstart.outcome import Outcome, agreement, environment, mistakes, prediction_rows
from headstart.phases import Images, Phases, as_begun, machine
from headstart.plan import Plan, make_plan
from headstart.report import Report
from headstart.run import Run, read_report
from headstart.strategy.strategy import Strategy
from headstart.training.boundary import decode_all
from headstart.training.checkpoint import Checkpoints, State
from headstart.training.device import (
    InferencePath,
    keep_freed_memory,
    out_of_memory,
    pick_device,
)
from headstart.training.features import Features, extract
from headstart.training.heads import HeadSpec
from headstart.training.interrupt import Interruption

__all__ = ["Fitted", "fit", "resume"]

Listener = Callable[[Event], None]


class Fitted(Classifier):
    """A classifier fresh from ``fit``: it knows its run folder and its report."""

    folder: Path
    report: Report


def fit(
    data: str | Path,
    out: str | Path | None = None,
    *,
    listener: Listener | None = None,
    cache: Cache | None = None,
    command: str | None = None,
    **options: Any,
) -> Fitted:
    """Train a classifier on labelled images and write its run folder.

    Args:
        data: A folder of class folders, or the name of a data set.
        out: The run folder; by default ``runs/DATA-STRATEGY-SEED``.
        listener: Called with each event: stages, progress, the plan, the result.
        cache: Where features are remembered; by default the user's cache folder.
        command: The command to show in the report; by default the Python call.
        **options: The fields of ``headstart.options.Options``.

    Returns:
        The classifier, with its ``folder`` and its ``report``.

    Raises:
        UsageError: An option can't be used, or a name is unknown.
        DataError: The images can't be used.
        ModelError: ``out`` holds something else, or the weights can't be used.
        ResourceError: A folder can't be written, or the device is not there.
        MissingWeights: The weights are not on this machine and can't be downloaded.
        GateMissed: The finished run is below ``minimum``.
    """
    walk = _Walk(data, out, Options(**options), Log(listener), cache or Cache(), command)
    return walk.run()


def resume(
    folder: str | Path,
    *,
    listener: Listener | None = None,
    cache: Cache | None = None,
    force: bool = False,
) -> Fitted:
    """Go on with a run where it stopped; on a CPU the result is bit-equal to an uninterrupted run.

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
    known = run.invocation()
    if run.finished:
        log = Log(listener)
        walk = _Walk(
            known["data"], run.folder, Options.from_dict(known["options"]), log, Cache(), None
        )
        return walk.done_already(run)
    torch.set_num_threads(run.environment()["threads"])
    options = Options.from_dict(known["options"])
    walk = _Walk(
        known["data"], run.folder, options, Log(listener), cache or Cache(), known["command"]
    )
    walk.taken_up = run
    walk.forced = () if force else None
    return walk.run()


def _changed(run: Run, changed: Sequence[str], fatal: Sequence[str]) -> ModelError:
    shown = "\n  ".join([*changed[:10], *(["…"] if len(changed) > 10 else [])])
    hint = "Restore it, or fit again into another folder."
    if not fatal:
        hint = "Restore the images, fit again into another folder, or go on with --force."
    return ModelError(
        f"{run.folder} can't go on: what it was made of has changed.\n  {shown}",
        field=str(run.folder),
        hint=hint,
    )


@dataclass
class _Clock:
    """Seconds by stage; each mark ends a stage."""

    start: float
    last: float
    seconds: dict[str, float]

    def mark(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[f"{stage}_s"] = round(now - self.last, 3)
        self.last = now

    def timings(self) -> dict[str, float]:
        return {"total_s": round(time.perf_counter() - self.start, 3), **self.seconds}


class _Walk:
    """One fit, step by step; every step hands plain values to the next."""

    def __init__(
        self,
        data: str | Path,
        out: str | Path | None,
        options: Options,
        log: Log,
        cache: Cache,
        command: str | None,
    ) -> None:
        self.data = data
        self.out = out
        self.options = options
        self.log = log
        self.cache = cache
        self.command = command or f"headstart.fit({str(data)!r})"
        now = time.perf_counter()
        self.clock = _Clock(now, now, {})
        self.computed = 0
        self.taken_up: Run | None = None  # the folder of a run to go on with
        self.forced: tuple[str, ...] | None = None  # what has changed since, if that is accepted

    def run(self) -> Fitted:
        self.log.emit("stage", stage="read")
        plan = make_plan(
            self.data, self.options, cache=self.cache, progress=self.log.progress("read")
        )
        if plan.trains:  # a single pass forward gains less than the memory that it would hold
            keep_freed_memory()
        self.log.emit("plan", lines=plan.lines())
        run = self._open(plan)
        if run.finished:
            return self.done_already(run)
        with run.locked():
            if run.finished:  # by another process, since this one looked
                return self.done_already(run)
            try:
                return self._in(run, plan)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                raise _no_memory(error) from error
            finally:
                self.log.close()

    def done_already(self, run: Run) -> Fitted:
        self.log.emit("done", run=str(run.folder), already=True)
        return self._hand_out(load(run.folder), run, read_report(run.folder))

    def _open(self, plan: Plan) -> Run:
        """Return the run's folder: a new one, or the one that is taken up again."""
        if self.taken_up is None:
            return Run.open(self.out, run_name(plan), plan.spec, data=plan.dataset.root)
        changed = self.taken_up.difference(plan.spec)
        fatal = [line for line in changed if not line.startswith(("data.", "split."))]
        if changed and (fatal or self.forced is None):
            raise _changed(self.taken_up, changed, fatal)
        self.forced = tuple(changed)
        return self.taken_up

    def _in(self, run: Run, plan: Plan) -> Fitted:
        """Make the run in its folder, or go on with what is there."""
        checkpoints = Checkpoints(run.folder / "checkpoints")
        state = self._begin(run, plan, checkpoints)
        if state is not None:
            plan = as_begun(plan, state)
        self.clock.mark("read")
        self.log.emit("stage", stage="features")
        images, features, split, failed = self._prepare(plan)
        self.clock.mark("features")

        self.log.emit("stage", stage="train")
        phases = Phases(
            plan,
            images,
            features.path,
            self.cache,
            self.log,
            checkpoints=checkpoints if plan.trains else None,
            interruption=Interruption(),
            save_seconds=60 * self.options.save_minutes,
            features=features if plan.solves else None,
        )
        trained = phases.run(state)
        self.clock.mark("train")

        self.log.emit("stage", stage="evaluate")
        classifier = Classifier(
            plan.backbone, trained.head, plan.task, trained.path, average=self.options.average
        )
        labels = {part: images.labels[positions] for part, positions in images.parts.items()}
        shares = probabilities(plan, classifier, images, trained)
        results = {part: plan.task.evaluate(shares[part], labels[part]) for part in ("val", "test")}
        agreed = None
        if trained.solved is not None and trained.features is not None:
            digests = [images.digests[position] for position in images.parts["val"]]
            plain = trained.features.rows.take(images.parts["val"])
            agreed = agreement(trained.features, trained.solved, digests, plain)
        outcome = Outcome(
            plan=plan,
            split=split,
            path=trained.path,
            computed=self.computed,
            agreement=agreed,
            trained=trained,
            results=results,
            probabilities=shares,
            failed=failed,
            changed=self.forced or (),
        )
        run.write_predictions(plan.task.classes, prediction_rows(outcome))
        report = self._write(run, classifier, outcome)
        checkpoints.clear()
        self.log.emit("done", run=str(run.folder), already=False, timings=report.timings)
        return self._hand_out(classifier, run, report)

    def _begin(self, run: Run, plan: Plan, checkpoints: Checkpoints) -> State | None:
        """Write spec.json and begin the log; return the checkpoint to go on from, if there is."""
        state, notes = (None, ()) if not plan.trains else checkpoints.load()
        if state is not None:
            require_same_machine(state)
            known = run.invocation()
            self.forced = (*known.get("changed", ()), *(self.forced or ()))
            if self.forced:  # the report says so, however often the run is interrupted yet
                known["changed"] = list(self.forced)
                run.write_spec(plan.spec, run.environment(), known)
            self.log.continue_in(run.folder / "log.jsonl")
            changed = [f"changed since it began: {line}" for line in self.forced]
            self.log.emit("resume", phase=state.position["phase"] + 1, notes=[*notes, *changed])
            return state
        invocation = {
            "data": self._data_for_later(),
            "options": self._options_for_later(),
            "command": self.command,
        }
        run.write_spec(plan.spec, environment(), invocation)
        self.log.write_to(run.folder / "log.jsonl")
        return None

    def _data_for_later(self) -> str:
        """Return what names the data from any folder: a path is made absolute."""
        path = Path(self.data)
        return str(path.resolve()) if path.exists() else str(self.data)

    def _options_for_later(self) -> dict[str, Any]:
        """Return the options, files among them read or named from any folder."""
        document = self.options.to_dict()
        if isinstance(self.options.strategy, str) and self.options.strategy.endswith(".toml"):
            document["strategy"] = Strategy.from_toml(Path(self.options.strategy)).to_dict()
        if self.options.weights is not None:
            document["weights"] = str(self.options.weights.resolve())
        return document

    def _prepare(self, plan: Plan) -> tuple[Images, Features, Split, tuple[Failure, ...]]:
        """Decode every image once: to features, or to pixels where a phase trains."""
        items = plan.checked.items
        order = [*plan.split.val, *plan.split.train, *plan.split.test]
        pixels: Rows | None = None
        positions = np.arange(len(order))
        failures: tuple[Failure, ...] = ()
        if plan.needs_pixels:
            decoded = decode_all(
                plan.backbone.input_spec,
                [items[index].path for index in order],
                [plan.checked.digests[index] for index in order],
                self.cache,
                names=[items[index].name for index in order],
                progress=self.log.progress("decode"),
            )
            pixels, positions, failures = decoded.rows, decoded.positions, decoded.failed
            self.computed = decoded.computed
            self._judge(plan, failures)
        features = self._features(plan, [order[row] for row in positions], pixels)
        if not plan.needs_pixels:
            failures, positions = features.failed, features.positions
            self.computed = features.computed
            self._judge(plan, failures)
        split = plan.split.without({order[failure.index] for failure in failures})
        indices = np.array([order[row] for row in positions], dtype=np.int64)
        images = Images.of(plan, split, indices, pixels)
        _require_classes(plan, images)
        features = replace(features, positions=np.arange(len(features.positions)))
        return images, features, split, (*plan.checked.failed, *failures)

    def _judge(self, plan: Plan, failures: Sequence[Failure]) -> None:
        failed = (*plan.checked.failed, *failures)
        n = len(plan.checked.items) + len(plan.checked.failed)
        judge_failures(n, failed, self.options.max_bad)

    def _features(self, plan: Plan, order: Sequence[int], pixels: Rows | None) -> Features:
        """Compute all features, val's first; where no head is solved, only enough for the path."""
        items = plan.checked.items
        if not plan.solves:
            order = order[: plan.path.batch_size]
        features = extract(
            plan.backbone,
            [items[index].path for index in order],
            [plan.checked.digests[index] for index in order],
            self.cache,
            plan.path,
            names=[items[index].name for index in order],
            pixels=pixels,
            decide=self.options.precision == "auto",
            progress=self.log.progress("features"),
        )
        self.log.emit(
            "features",
            images=len(features.rows),
            computed=features.computed,
            remembered=features.remembered,
            failed=len(features.failed),
            path=features.path.to_dict(),
        )
        return features

    def _write(self, run: Run, classifier: Classifier, outcome: Outcome) -> Report:
        """Write all that is left of the run folder, report.json last."""
        from headstart.figures import confusion_figure, curves_figure, mistakes_figure
        from headstart.page import render_html

        pictures = mistakes(outcome)
        self.clock.mark("evaluate")
        report = outcome.report(run.folder.name, self.clock.timings(), self.command)
        is_linear = HeadSpec.parse(self.options.head).is_linear
        for_timm = is_linear and timm_config(classifier.backbone, classifier.task) is not None
        classifier.save(run.folder / "model", card=model_card(report, for_timm=for_timm))
        confusion_figure(report, run.folder / "figures" / "confusion.png")
        mistakes_figure(pictures, run.folder / "figures" / "mistakes.png")
        curves_figure(report, run.folder / "figures" / "curves.png")
        report = replace(report, timings=self.clock.timings())
        write_text(run.folder / "report.html", render_html(report, pictures))
        write_json(run.folder / "report.json", report.to_dict())
        return report

    def _hand_out(self, classifier: Classifier, run: Run, report: Report) -> Fitted:
        """Return the classifier, unless a quality gate is missed."""
        fitted = Fitted(
            classifier.backbone,
            classifier.head,
            classifier.task,
            classifier.path,
            classifier.notes,
            classifier.average,
        )
        fitted.folder, fitted.report = run.folder, report
        missed = [
            f"{name} is {report.test[name].value:.4f}, asked for {minimum:g}"
            for name, minimum in self.options.minimum.items()
            if (report.test[name].value or 0.0) < minimum
        ]
        if missed:
            raise GateMissed(
                f"The run is finished but below its gate: test {'; '.join(missed)}.",
                field="min",
                hint=f"Its report: {run.folder / 'report.html'}",
            )
        return fitted


def run_name(plan: Plan) -> str:
    """Return the name of a run's folder where the user gave none."""
    strategy = re.sub(r"[^\w.=-]+", "-", plan.strategy.name).strip("-.") or "strategy"
    return f"{plan.dataset.name}-{strategy}-{plan.options.seed}"


def require_same_machine(state: State) -> None:
    """Go on with as many threads as before; refuse another machine, whose numbers would differ.

    Raises:
        ModelError: The processor, a version or the device is another than the checkpoint's.
    """
    document = state.position
    try:
        path = InferencePath.from_dict(document["path"])
        pick_device(path.device)
        there, here = document["machine"], machine(path)
        torch.set_num_threads(document["threads"])
    except (KeyError, TypeError, ResourceError) as error:
        raise ModelError(
            f"The checkpoint can't be gone on with here: {error}",
            field="checkpoints",
            hint="Resume it on the machine it began on, or fit again with another --out.",
        ) from error
    changed = [
        f"{name} {there.get(name)}, here {here[name]}"
        for name in here
        if there.get(name) != here[name]
    ]
    if changed:
        raise ModelError(
            f"The run would not go on as it began: it has {'; '.join(changed)}.",
            field="checkpoints",
            hint="Resume it where it began, or fit again with another --out.",
        )


def _no_memory(error: RuntimeError) -> ResourceError:
    return ResourceError(
        f"There is not enough memory: {str(error).splitlines()[0]}",
        field="batch-size",
        hint="Take a smaller --batch-size, --size or backbone.",
    )


def _require_classes(plan: Plan, images: Images) -> None:
    """Check that what is left after the unreadable images left is enough.

    Raises:
        DataError: A class has no training image, or test is empty.
    """
    learnt = set(images.labels[images.parts["train"]].tolist())
    gone = [name for label, name in enumerate(plan.task.classes) if label not in learnt]
    if gone or not len(images.parts["test"]):
        what = f"no readable training image of {', '.join(gone)}" if gone else "no test image"
        raise DataError(f"After the unreadable images were left out, there is {what}.")
