"""The report of a run: what was measured, on what, and how.

``Report`` is report.json, and ``Mistake`` a picture that goes with it. ``page`` shows them in a
browser, ``figures`` as PNG files.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headstart.errors import ModelError
from headstart.metrics import ClassScore, Metric

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Mistake", "Report", "printable", "shortened", "text_width", "thumbnail"]

FORMAT = 1
_THUMBNAIL_SIDE = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A finished run, as report.json holds it; all members are plain JSON underneath.

    Attributes:
        run: Name of the run.
        task: What the labels mean, such as ``single-label``.
        backbone: Name, weights, licence and digest of the pre-trained network.
        strategy: Name and phases; ``solver`` tells what the head's solver found, where the last
            phase was solved.
        training: What happened in each phase: ``phase``, ``kind`` (``solve`` or ``train``),
            ``seconds``; of a solved one the solver's choice; of a trained one its ``epochs`` (each
            with ``epoch``, ``loss``, ``val``, ``rates``, ``seconds``), which is ``kept``, and why
            it ``stopped`` early, if it did. Of one that stays only where it is better, what
            decided is under ``keep``; how its epochs were cut to end in time is under
            ``shortened``; and why it was left out, under ``skipped``.
        auto: Where the strategy was ``auto``: ``decisions``, each with ``question``, ``choice``,
            ``reason``, ``otherwise`` and ``numbers``; ``ladder``, each step's ``accuracy`` on val,
            ``seconds``, ``predicted_s`` and whether it was ``kept``; ``total_s``, the predicted
            seconds in all, ``budget_s``, and what the ``published`` tables would have chosen.
        parameters: ``trainable``, the most that any phase trained that stayed, and ``total``.
        split: ``digest``, ``n_train``, ``n_val`` and ``n_test``.
        classes: The classes, in the order of ``confusion`` and ``per_class``.
        val: Metrics by name on the images that choices were made on.
        test: Metrics by name on the images that were kept for the end.
        without_copies: ``left_out``, how many test images have a near copy in train or val;
            ``complete``, whether all were searched for; ``test``, the metrics on all others, None
            where there are no others. None where none has a copy, or it is not known.
        confusion: Counts on test; a row is a true class, a column a predicted one.
        per_class: Scores on test, one a class.
        timings: Seconds: ``total_s``, ``read_s``, ``features_s``, ``train_s``, ``evaluate_s``; of
            a run that was resumed, those of all its sessions. The pauses between them don't count,
            nor what was computed after the last save and computed again.
        engine: ``device``, ``precision``, ``layout``, ``compiled``, ``reason`` and more.
        findings: What the check of the data found: ``kind``, ``severity``, ``files``, ``message``,
            ``hint``.
        failed: Images that could not be used: ``name`` and ``reason``.
        versions: Version by package.
        command: The exact command of the run.
        created: When the run ended, in ISO 8601.
    """

    run: str
    task: str
    backbone: dict[str, Any]
    strategy: dict[str, Any]
    training: tuple[dict[str, Any], ...]
    auto: dict[str, Any] | None = None
    parameters: dict[str, int]
    split: dict[str, Any]
    classes: tuple[str, ...]
    val: dict[str, Metric]
    test: dict[str, Metric]
    without_copies: dict[str, Any] | None = None
    confusion: tuple[tuple[int, ...], ...]
    per_class: tuple[ClassScore, ...]
    timings: dict[str, float]
    engine: dict[str, Any]
    findings: tuple[dict[str, Any], ...]
    failed: tuple[dict[str, str], ...]
    versions: dict[str, str]
    command: str
    created: str

    def to_dict(self) -> dict[str, Any]:
        """Return report.json's document; ``from_dict`` turns it back."""
        return {
            "format": FORMAT,
            "run": self.run,
            "task": self.task,
            "backbone": self.backbone,
            "strategy": self.strategy,
            "training": list(self.training),
            "auto": self.auto,
            "parameters": self.parameters,
            "split": self.split,
            "classes": list(self.classes),
            "val": {name: metric.to_dict() for name, metric in self.val.items()},
            "test": {name: metric.to_dict() for name, metric in self.test.items()},
            "without_copies": self.without_copies,
            "confusion": [list(row) for row in self.confusion],
            "per_class": [asdict(score) for score in self.per_class],
            "timings": self.timings,
            "engine": self.engine,
            "findings": list(self.findings),
            "failed": list(self.failed),
            "versions": self.versions,
            "command": self.command,
            "created": self.created,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Report:
        """Build a report from ``to_dict``'s result.

        Raises:
            ModelError: It is of another format, or not a report.
        """
        try:
            fields = dict(document)
            found = fields.pop("format")
            if found != FORMAT:
                raise ModelError(
                    f"report.json must be of format {FORMAT}, this one is of format {found!r}.",
                    hint="Read it with the version of headstart that wrote it.",
                )
            for name in ("val", "test"):
                fields[name] = {key: Metric.from_dict(m) for key, m in fields[name].items()}
            fields["confusion"] = tuple(tuple(row) for row in fields["confusion"])
            fields["per_class"] = tuple(ClassScore(**score) for score in fields["per_class"])
            for name in ("classes", "findings", "failed", "training"):
                fields[name] = tuple(fields[name])
            return cls(**fields)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"Not the report of a run: {error!r}.", field="report.json") from error


@dataclass(frozen=True, slots=True)
class Mistake:
    """A test image whose prediction is wrong.

    Attributes:
        name: The item's name.
        label: Its true class.
        predicted: The class it was taken for.
        probability: What the classifier gave that class.
        thumbnail: JPEG bytes as ``thumbnail`` makes them; None if it can't be shown.
    """

    name: str
    label: str
    predicted: str
    probability: float
    thumbnail: bytes | None


def thumbnail(image: Image, side: int = _THUMBNAIL_SIDE) -> bytes:
    """Return ``image`` as a JPEG whose longer side has at most ``side`` pixels."""
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, reducing_gap=2.0)
    file = io.BytesIO()
    small.convert("L" if small.mode == "L" else "RGB").save(file, "JPEG", quality=85)
    return file.getvalue()


def printable(text: str) -> str:
    r"""Replace what UTF-8 can't say: a stray byte of a file name becomes ``\xff``."""
    return re.sub("[\ud800-\udfff]", lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else "\ufffd"


def shortened(text: str, width: int) -> str:
    """Cut ``text`` to ``width`` columns of ``text_width``; an ellipsis shows that it was cut."""
    if text_width(text) <= width:
        return text
    kept = ""
    for character in text:
        if text_width(kept + character) >= width:
            break
        kept += character
    return kept.rstrip() + "…"


def text_width(text: str) -> int:
    """Return how many columns ``text`` takes; a Chinese character takes two, an accent none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
