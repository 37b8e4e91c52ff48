"""The confusion matrix as a picture: what the page and the figures draw, and how strongly."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.report import Report, shortened, text_width

__all__ = ["NUMBERED_UP_TO", "Cell", "Matrix", "Pair", "confused_pairs", "draw_matrix"]

NUMBERED_UP_TO = 25  # classes; above, a cell shows its colour only
_SIDE = 720.0  # of a matrix without numbers, in pixels
_CELL_SIDES = ((2, 104), (4, 80), (7, 62), (12, 46), (18, 36), (NUMBERED_UP_TO, 29))
_LETTER = 7.6  # width of a letter of the labels, in pixels
_AXIS = 52  # what the words at the rows' corner take


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the matrix that counts something.

    Attributes:
        row: Index of the true class.
        column: Index of the predicted class.
        count: Number of images.
        share: ``count`` as a share of the row.
        depth: How strongly it is coloured, above 0, at most 1. The root makes the few visible
            beside the many: 4 % of a row is a fifth of the way.
    """

    row: int
    column: int
    count: int
    share: float
    depth: float

    @property
    def kind(self) -> str:
        """``right`` on the diagonal, ``wrong`` off it."""
        return "right" if self.row == self.column else "wrong"

    @property
    def ink(self) -> str:
        """Which text is legible on it: ``pale``, ``mid`` or ``deep``, named after the ground.

        The limits belong to the colours of report.css; a test holds their contrast to WCAG's AA.
        """
        if self.kind == "right" and self.depth >= 0.77:
            return "deep"
        return "mid" if self.depth >= 0.61 else "pale"


@dataclass(frozen=True, slots=True)
class Matrix:
    """A drawn confusion matrix; lengths in pixels.

    Attributes:
        cells: The cells that are not empty.
        labels: A shortened name for each row and column; none where ``ticks`` stand instead.
        ticks: Rows and columns whose number is written.
        cell: Side of a cell.
        left: Width of the row labels.
        top: Height of the column labels.
        slanted: Whether the column labels are too long to stand level.
    """

    cells: tuple[Cell, ...]
    labels: tuple[str, ...]
    ticks: tuple[int, ...]
    cell: float
    left: float
    top: float
    side: float
    slanted: bool

    @property
    def numbered(self) -> bool:
        """Whether the counts are written into the cells."""
        return bool(self.labels)

    @property
    def width(self) -> float:
        """Width of the picture; the last slanted label hangs over to the right."""
        return self.left + self.side + (self.top if self.slanted else 8)

    @property
    def height(self) -> float:
        """Height of the picture."""
        return self.top + self.side + 4


def draw_matrix(report: Report) -> Matrix:
    """Lay out the confusion matrix of ``report``, with numbers where they can be read."""
    n = len(report.classes)
    faintest = 0.06 if n <= NUMBERED_UP_TO else 0.3  # a small cell has no number to be seen by
    cells = tuple(
        Cell(row, column, count, share, faintest + (1 - faintest) * share**0.5)
        for row, counts in enumerate(report.confusion)
        for column, count in enumerate(counts)
        if count and (share := count / sum(counts))
    )
    if n > NUMBERED_UP_TO:
        step = next((step for step in (5, 10, 20, 50, 100, 200) if n <= 12 * step), 500)
        ticks = tuple(range(step - 1, n, step))
        return Matrix(cells, (), ticks, _SIDE / n, 40, 40, _SIDE, slanted=False)
    cell = next(side for most, side in _CELL_SIDES if n <= most)
    labels = tuple(shortened(name, 22 if n <= 7 else 16) for name in report.classes)
    longest = _LETTER * max(map(text_width, labels))
    slanted = longest > cell - 8
    top = 34 + (0.71 * longest + 8 if slanted else 18)
    left = max(longest + 16, _AXIS)
    return Matrix(cells, labels, (), cell, left, top, cell * n, slanted)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two classes, one taken for the other.

    Attributes:
        label: The true class.
        predicted: What it was taken for.
        count: Number of images.
        share: ``count`` as a share of the true class's images.
    """

    label: str
    predicted: str
    count: int
    share: float


def confused_pairs(report: Report, limit: int) -> list[Pair]:
    """Return the ``limit`` pairs that are confused most often."""
    pairs = [
        Pair(report.classes[cell.row], report.classes[cell.column], cell.count, cell.share)
        for cell in draw_matrix(report).cells
        if cell.kind == "wrong"
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:limit]
