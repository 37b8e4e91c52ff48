"""The main job: from labelled images to a classifier in a run folder, one step after the other."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headstart.cache import Cache
from headstart.checkpointing import as_begun
from headstart.choice import choose, deadline
from headstart.classifier import Classifier, load
from headstart.clock import Clock
from headstart.data.checks.replaced import find_replaced
from headstart.data.objects.in_memory import as_source
from headstart.data.sources import absolute
from headstart.data.splits.split_file import write_split
from headstart.errors import GateMissed, ResourceError
from headstart.images import prepare
from headstart.judging import agreement, probabilities
from headstart.log import Event, Log
from headstart.machine import require_same_machine
from headstart.options import Options
from headstart.outcome import Outcome, environment
from headstart.phases import Phases
from headstart.plan import Plan
from headstart.planning import make_plan
from headstart.report import Report
from headstart.run import Run, read_report
from headstart.strategy.strategy import Strategy
from headstart.training.checkpoint import Checkpoints, State
from headstart.training.device import out_of_memory
from headstart.training.interrupt import Interruption
from headstart.trust import audit_of, without_copies

__all__ = ["Fitted", "Listener", "Walk", "fit", "run_name"]

Listener = Callable[[Event], None]


class Fitted(Classifier):
    """A classifier fresh from ``fit``: it knows its run folder and its report."""

    folder: Path
    report: Report


def fit(
    data: object,
    out: str | Path | None = None,
    *,
    listener: Listener | None = None,
    cache: Cache | None = None,
    command: str | None = None,
    **options: Any,
) -> Fitted:
    """Train a classifier on labelled images and write its run folder.

    Args:
        data: A folder, a table, a zip file, the name of a data set, or labelled images as Python
            objects (``docs/data.md``).
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
    asked, cache = Options(**options), cache or Cache()
    source = as_source(data, cache.given, asked.reading)
    return Walk(source, out, asked, Log(listener), cache, command).run()


class Walk:
    """One fit, step by step; every step hands plain values to the next.

    Args:
        data: What ``fit`` was given, as files.
        out: The run folder, or None to have one named.
        options: What was asked for.
        log: Told of everything.
        cache: Where features are remembered.
        command: The command to show in the report; by default the Python call.
    """

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
        self.clock = Clock("read")
        self.changed: tuple[str, ...] = ()  # since the run began, and accepted
        self.anew = False  # whether what has changed was met by beginning again

    def _stage(self, stage: str) -> None:
        """Begin a stage: on the clock and for whoever listens."""
        self.clock.begin(stage)
        self.log.emit("stage", stage=stage)

    def run(self) -> Fitted:
        """Walk from the images to the classifier, or hand out a run that is done already."""
        self.log.emit("stage", stage="read")
        plan = make_plan(
            self.data, self.options, cache=self.cache, progress=self.log.progress("read")
        )
        self.log.emit("plan", lines=plan.lines())
        run = self._open(plan)
        if run.finished:
            return self.done_already(run)
        with run.locked():
            if run.finished:  # by another process, since this one looked
                return self.done_already(run)
            try:
                return self._in(run, plan if plan.given is None else self._chosen(run, plan))
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                raise _no_memory(error) from error
            finally:
                self.log.close()

    def done_already(self, run: Run) -> Fitted:
        """Hand out the classifier of a finished run."""
        self.log.emit("done", run=str(run.folder), already=True)
        return self._hand_out(load(run.folder), run, read_report(run.folder))

    def _open(self, plan: Plan) -> Run:
        """Return the folder of the run."""
        # A run may lie beside a table, but not in a folder that is all images.
        images = plan.dataset.root if Path(plan.data).is_dir() else None
        return Run.open(self.out, run_name(plan), plan.spec, data=images)

    def _chosen(self, run: Run, plan: Plan) -> Plan:
        """Have ``auto`` choose; from now on the run can be resumed."""
        if not run.matches(plan.spec):
            run.write_spec(plan.spec, environment(), self._invocation())
        return choose(plan, run.folder, cache=self.cache, log=self.log, clock=self.clock)

    def _in(self, run: Run, plan: Plan) -> Fitted:
        """Make the run in its folder, or go on with what is there."""
        checkpoints = Checkpoints(run.folder / "checkpoints")
        state = self._begin(run, plan, checkpoints)
        if state is not None:
            plan = as_begun(plan, state)
        self._stage("features")
        prepared = prepare(plan, self.cache, self.log)
        images, features = prepared.images, prepared.features

        self._stage("train")
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
            clock=self.clock,
            deadline=deadline(plan, self.clock),
            predicted=None if plan.decided is None else plan.decided.seconds,
        )
        trained = phases.run(state)

        self._stage("evaluate")
        classifier = Classifier(
            plan.backbone, trained.head, plan.task, trained.path, average=plan.options.average
        )
        labels = {part: images.labels[positions] for part, positions in images.parts.items()}
        shares = probabilities(plan, classifier, images, trained)
        results = {part: plan.task.evaluate(shares[part], labels[part]) for part in ("val", "test")}
        agreed = None
        if trained.solved is not None and trained.features is not None:
            digests = [images.digests[position] for position in images.parts["val"]]
            plain = trained.features.rows.take(images.parts["val"])
            agreed = agreement(trained.features, trained.solved, digests, plain)
        found = None
        if plan.audits:
            self._stage("audit")
            found = audit_of(plan, prepared)
        outcome = Outcome(
            plan=plan,
            split=prepared.split,
            path=trained.path,
            computed=prepared.computed,
            agreement=agreed,
            trained=trained,
            results=results,
            probabilities=shares,
            failed=prepared.failed,
            replaced=find_replaced(plan.checked, self.cache),
            audit=found,
            without_copies=without_copies(plan, prepared, found, shares["test"]),
            changed=self.changed,
            anew=self.anew,
        )
        report = outcome.write(run, classifier, self.clock, self.command)
        checkpoints.clear()
        self.log.emit("done", run=str(run.folder), already=False, timings=report.timings)
        return self._hand_out(classifier, run, report)

    def _begin(self, run: Run, plan: Plan, checkpoints: Checkpoints) -> State | None:
        """Write split.csv and spec.json, begin the log; return the checkpoint to go on from."""
        checked = plan.checked
        # As it was planned: given again, it has the same digest.
        write_split(plan.split, checked.items, checked.digests, run.folder / "split.csv")
        state, notes = (None, ()) if not plan.trains else checkpoints.load()
        if state is not None:
            require_same_machine(state)
            known = run.invocation()
            self.changed = (*known.get("changed", ()), *self.changed)
            if self.changed:  # the report says so, however often the run is interrupted yet
                known["changed"] = list(self.changed)
                run.write_spec(plan.spec, run.environment(), known)
            earlier = state.position.get("timings", {"total_s": 0.0})  # earlier versions kept none
            self.clock.take_up(earlier)
            self.log.continue_in(run.folder / "log.jsonl", earlier=earlier["total_s"])
            changed = [f"changed since it began: {line}" for line in self.changed]
            self.log.emit("resume", phase=state.position["phase"] + 1, notes=[*notes, *changed])
            return state
        self.anew = bool(self.changed)
        run.write_spec(plan.spec, environment(), self._invocation())
        self.log.write_to(run.folder / "log.jsonl")
        return None

    def _invocation(self) -> dict[str, Any]:
        """Return what starts the run again from any folder: paths absolute, a strategy's file read.

        It is plain JSON.
        """
        options = self.options.to_dict()
        if isinstance(self.options.strategy, str) and self.options.strategy.endswith(".toml"):
            options["strategy"] = Strategy.from_toml(Path(self.options.strategy)).to_dict()
        for name in ("weights", "root", "split"):
            if isinstance(path := getattr(self.options, name), Path):
                options[name] = str(path.expanduser().absolute())
        options["test"] = self.options.test and absolute(self.options.test)
        return {"data": absolute(self.data), "options": options, "command": self.command}

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


def _no_memory(error: RuntimeError) -> ResourceError:
    return ResourceError(
        f"There is not enough memory: {str(error).splitlines()[0]}",
        field="batch-size",
        hint="Take a smaller --batch-size, --size or backbone.",
    )
