"""A strategy and its training in words, as the page, the card and the terminal say them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.training.record import gone_back

if TYPE_CHECKING:
    from headstart.report import Report

__all__ = [
    "PhaseRow",
    "choice",
    "course",
    "kept",
    "phase_rows",
    "phase_settings",
    "settings",
    "stayed",
    "stops",
    "trains",
    "what_was_kept",
]

_MONITORS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss",
    "macro_f1": "macro F1",
}
_OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD with momentum 0.9"}
_SCHEDULES = {
    "one-cycle": "one cycle: up for {warmup} of the steps, then down to almost nothing",
    "cosine": "cosine: up for {warmup} of the steps, then down to 0",
    "constant": "constant",
    "step": "a tenth after each third of the epochs",
    "plateau": "a tenth whenever val has not improved for two epochs",
}
_KEEPS = {"better": "; stays only where val improves by more than its noise"}
_NORMS = {
    "train": "statistics trained",
    "adapt": "statistics estimated anew and the head solved again, then both trained",
}
_SYMMETRIES = {"flip": "mirrored left and right", "square": "turned and mirrored"}


def kept(record: Mapping[str, Any]) -> str:
    """Say which weights a trained phase kept, and why."""
    stopped = record["stopped"] or {}
    if gone_back(record):
        return "the weights before it"
    if record["best_epoch"] is None:
        if stopped.get("why") == "not-finite":
            return "the weights before the epoch that broke off"
        return "its last step" if stopped.get("partial") else "the last epoch"
    reason = f"best {_MONITORS[record['monitor']]} on val"
    if record["best_epoch"] == 0:
        return f"the weights before its first step, {reason}"
    return f"epoch {record['best_epoch']}, {reason}"


def choice(record: Mapping[str, Any]) -> str:
    """Say what a phase's outcome is: the penalty of a solved head, the epoch that was kept.

    Of a phase that may not stay, with what decided it: how many val images it put right.
    """
    if record["kind"] == "solve":
        return f"penalty {record['penalty']:g}, chosen by {record['chosen_by']}"
    if "skipped" in record:
        return f"left out, {record['skipped']}"
    if gone_back(record):
        return f"not kept: {record['keep']['reason']}"
    better = f": {record['keep']['reason']}" if "keep" in record else ""
    return f"kept {kept(record)}{better}"


def stayed(report: Report) -> Mapping[str, Any] | None:
    """Return the record of the last phase whose weights stayed: what the classifier is."""
    return next((it for it in reversed(report.training) if not gone_back(it)), None)


def what_was_kept(report: Report) -> str | None:
    """Say what the last phase that stayed left; None where there was no phase."""
    last = stayed(report)
    if last is None:
        return None
    which = (
        ""
        if last["kind"] == "solve" and last is report.training[-1]
        else (f"phase {last['phase']}: ")
    )
    return f"{which if len(report.training) > 1 else ''}{choice(last)}"


def stops(report: Report) -> Iterator[str]:
    """Yield the sentences of ``course``."""
    return (sentence for _, sentence in course(report))


def course(report: Report) -> Iterator[tuple[str, str]]:
    """Yield a sentence for each phase that was tried, or that did not go through as planned.

    Each with its severity, ``note`` or ``warning``.
    """
    phases = report.strategy.get("phases", ())
    for record in report.training:
        name = f"Phase {record['phase']}"
        if "skipped" in record:
            yield "note", f"{name} was left out: {record['skipped']}."
        if "shortened" in record:
            yield "note", f"{name} was {shortened(record['shortened'])}."
        stopped = record.get("stopped")
        if stopped:
            severity = "note" if stopped["why"] == "budget" else "warning"
            yield severity, f"{name} {_stopped(record, stopped, phases)}"
        if record.get("parts", 1) > 1:
            yield (
                "warning",
                f"{name} ran out of memory and went on with {record['images_at_once']} images at "
                "once; the gradients are those of the whole batch.",
            )
        if "keep" in record:
            done = "was kept" if record["keep"]["kept"] else "was tried and not kept"
            yield "note", f"{name} {done}: {record['keep']['reason']}."


def _stopped(
    record: Mapping[str, Any], stopped: Mapping[str, Any], phases: Sequence[Mapping[str, Any]]
) -> str:
    """Say why a phase ended before its last epoch."""
    if stopped["why"] == "budget":
        return f"{out_of_time(stopped)}. Kept: {kept(record)}."
    if stopped["why"] == "patience":
        planned = phases[record["phase"] - 1]["train"]["epochs"]
        monitor = _MONITORS[record["monitor"]]
        return (
            f"stopped early, after epoch {stopped['epoch']} of {planned}: {monitor} on val no "
            "longer improved."
        )
    return (
        f"broke off in epoch {stopped['epoch']}, step {stopped['step']}: the {stopped['what']} "
        f"was not finite. Kept: {kept(record)}."
    )


def shortened(cut: Mapping[str, Any]) -> str:
    """Say how a phase's epochs were cut so that it ends in time."""
    after = f"after epoch {cut['epoch']}" if cut["epoch"] else "when it began"
    return (
        f"shortened from {cut['planned']} to {cut['epochs']} epoch"
        f"{'' if cut['epochs'] == 1 else 's'} to end in time: {after}, {cut['left']:.0f} s were "
        f"left, and an epoch takes {cut['pace']:.3g} s"
    )


def out_of_time(stopped: Mapping[str, Any]) -> str:
    """Say where a phase ended because its time was over."""
    if "step" not in stopped:
        return (
            f"ended after epoch {stopped['epoch']} of {stopped['epochs']}: another epoch takes "
            f"{stopped['pace']:.3g} s, and {max(0.0, stopped['left']):.0f} s were left"
        )
    return (
        f"ended in epoch {stopped['epoch']} of {stopped['epochs']}, after step {stopped['step']} "
        f"of {stopped['steps']}: the time was over"
    )


def trains(report: Report) -> bool:
    """Return whether any phase is more than a solved head."""
    return any(record["kind"] == "train" for record in report.training)


def settings(report: Report) -> list[tuple[str, dict[str, str]]]:
    """Return what each phase was told; of a trained one only what the one before was not."""
    if not trains(report):
        return []
    found = []
    before: tuple[int, dict[str, str]] = (0, {})
    for number, phase in enumerate(report.strategy.get("phases", ()), start=1):
        told = shown = phase_settings(phase)
        if told.keys() == before[1].keys():
            shown = {name: value for name, value in told.items() if value != before[1][name]}
            shown["otherwise"] = f"as phase {before[0]}"
        if "train" in phase:
            before = number, told
        found.append((f"Phase {number}: {'trained' if 'train' in phase else 'solved'}", shown))
    return found


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """A row of the table of phases; None where a phase that solved, or was left out, has none.

    Attributes:
        number: Of the phase, from 1.
        learns: The patterns of what had a rate.
        trainable: How many parameters that is, where the record tells.
        epochs: How many, and of how many planned; or that it was solved.
        outcome: What was kept, and why.
        accuracy: Of that on val.
        seconds: In all.
        how: Precision, augmented views of each image, frozen blocks computed once for each view.
    """

    number: int
    learns: str
    trainable: int | None
    epochs: str
    outcome: str
    accuracy: float | None
    seconds: float | None
    how: str | None


def phase_rows(report: Report) -> list[PhaseRow]:
    """Return the table of phases; empty where nothing trained."""
    if not trains(report):
        return []
    told = report.strategy.get("phases", ())
    # What broke off has no phases after it.
    return [_row(*pair) for pair in zip(report.training, told, strict=False)]


def _row(record: Mapping[str, Any], phase: Mapping[str, Any]) -> PhaseRow:
    val, epochs = record.get("val"), "solved"
    if record["kind"] == "train":
        done, planned = _done(record["epochs"]), phase["train"]["epochs"]
        epochs = str(done) if done == planned else f"{done} of {planned}"
        of_best = (e["val"] for e in record["epochs"] if e["epoch"] == record["best_epoch"])
        val = next(of_best, None)
    return PhaseRow(
        number=record["phase"],
        learns=_spanned([name for name, rate in phase["rates"] if rate is not None]),
        trainable=record.get("trainable"),
        epochs=epochs,
        outcome=_outcome(record),
        accuracy=val["accuracy"] if val else None,
        seconds=None if "skipped" in record else record.get("seconds"),
        how=_how(record) if record["kind"] == "train" and "skipped" not in record else None,
    )


def _outcome(record: Mapping[str, Any]) -> str:
    """Say in a few words what a phase left; ``course`` says why."""
    if record["kind"] == "solve":
        return choice(record)
    before = "left out; " if "skipped" in record else "not kept; " if gone_back(record) else ""
    return f"{before}{kept(record)}"


def _how(record: Mapping[str, Any]) -> str:
    views, blocks = record["views"], record["boundary"]
    parts = [
        record["precision"],
        f"{views} view{'' if views == 1 else 's'}" if views else "no views",
        f"{blocks} block{'' if blocks == 1 else 's'} remembered" if blocks else None,
    ]
    return ", ".join(filter(None, parts))


def _spanned(names: Sequence[str]) -> str:
    if len(names) <= 4:
        return ", ".join(names)
    return f"{', '.join(names[:2])} … {names[-1]}"


def _done(epochs: Sequence[Mapping[str, Any]]) -> int:
    return max((int(epoch["epoch"]) for epoch in epochs), default=0)


def phase_settings(phase: Mapping[str, Any]) -> dict[str, str]:
    """Return what a phase of ``Report.strategy`` was told, name by name, idle settings left out."""
    if "solve" in phase:
        penalties = phase["solve"]["penalties"]
        choices = ", ".join(f"{penalty:g}" for penalty in penalties)
        return {"penalties": choices}
    train = phase["train"]
    clip = "" if train["clip"] is None else f"; gradients clipped at norm {train['clip']:g}"
    return {
        "rates": "; ".join(_rate(*pair) for pair in phase["rates"]),
        "schedule": _SCHEDULES[train["schedule"]].format(warmup=_share(train["warmup"])),
        "optimizer": f"{_OPTIMIZERS[train['optimizer']]}, weight decay {train['weight_decay']:g}"
        f"{clip}",
        "epochs": f"{train['epochs']} of batches of {train['batch_size']}{_drawn(train)}",
        "choice": f"{_choice_rule(train)}{_KEEPS.get(phase.get('keep', 'always'), '')}",
        "augmentation": _augmentation(phase, train),
        **_regularisation(train),
        **({"batch norm": _NORMS[it]} if (it := train["batch_norm"]) in _NORMS else {}),
    }


def _rate(pattern: str, rate: float | None) -> str:
    return f"{pattern} {'frozen' if rate is None else format(rate, '.3g')}"


def _share(value: float) -> str:
    return f"{100 * value:g} %"


def _drawn(train: Mapping[str, Any]) -> str:
    return ", each class drawn as often as any other" if train["sampling"] == "balanced" else ""


def _choice_rule(train: Mapping[str, Any]) -> str:
    if train["monitor"] == "none":
        return "the last epoch"
    rule = f"best {_MONITORS[train['monitor']]} on val"
    if train["patience"] is None:
        return rule
    n = train["patience"]
    return f"{rule}; stop after {n} epoch{'' if n == 1 else 's'} without a better one"


def _augmentation(phase: Mapping[str, Any], train: Mapping[str, Any]) -> str:
    if phase["augment"] == "none":
        return "none"
    mirrored = _SYMMETRIES.get(phase["symmetry"]) if phase["augment"] != "custom" else None
    views = f"{train['views']} views of each image beside it" if train["views"] else None
    return ", ".join(filter(None, (phase["augment"], mirrored, views)))


def _regularisation(train: Mapping[str, Any]) -> dict[str, str]:
    """Return what is switched on of the rest."""
    shares = {"label smoothing": "label_smoothing"}
    numbers = {"mixup": "mixup", "cutmix": "cutmix", "L1 on the head": "l1", "L2 on the head": "l2"}
    numbers |= {"average of the weights, decay": "ema"}
    used = {name: _share(train[key]) for name, key in shares.items() if train[key]}
    return used | {name: f"{train[key]:g}" for name, key in numbers.items() if train[key]}
