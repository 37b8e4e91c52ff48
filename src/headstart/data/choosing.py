"""What the user chooses of a source: its classes, what its groups are, and another test part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from headstart.data.items import Dataset, Item
from headstart.data.matching import require_learnt
from headstart.data.quoting import listed
from headstart.data.reading import COLUMNS, Reading
from headstart.errors import DataError, UnknownName, UsageError

__all__ = ["choose", "choose_classes", "group_items", "problems", "with_test"]

_LEARNABLE = 2  # classes, below which nothing is to be learnt


def problems(reading: Reading) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a reading whatever the source, as (option, what must hold)."""
    for name, own in reading.columns.items():
        if name not in COLUMNS:
            yield "column", f"knows {', '.join(COLUMNS)}, not {name!r}"
        elif not own:
            yield "column", f"must name the table's own column for {name}"
    twice = [own for own, n in Counter(reading.columns.values()).items() if own and n > 1]
    if twice:
        yield "column", f"must not give {twice[0]!r} two meanings"
    if reading.classes is not None:
        if not reading.classes or "" in reading.classes:
            yield "classes", "must be names with commas between"
        twice = [name for name, n in Counter(reading.classes).items() if name and n > 1]
        if twice:
            yield "classes", f"must name each class once, not {twice[0]!r} twice"
    if reading.group_by is not None:
        try:
            re.compile(reading.group_by)
        except re.error as error:
            yield "group-by", f"must be a regular expression, not '{reading.group_by}' ({error})"


def choose(dataset: Dataset, reading: Reading, *, min_classes: int) -> Dataset:
    """Take what the reading asks for of a source, and require that it can be used for that.

    Args:
        dataset: The whole source, its test part included.
        reading: Its ``classes`` and ``group_by``; whether the ``test`` part was joined to it.
        min_classes: The least number of classes: 2 to learn from. Below, any part may have classes
            of its own, and all are the data set's.

    Raises:
        UsageError: The reading can't be followed.
        UnknownName: A class is not there.
        DataError: Too few classes, or, where it is to be learnt from, classes in val or test that
            train lacks.
    """
    if reading.classes is not None:
        dataset = choose_classes(dataset, reading.classes)
    if min_classes >= _LEARNABLE:
        _require_learnable(dataset)
    elif extra := {item.label for item in dataset.items} - set(dataset.classes):
        dataset = replace(dataset, classes=tuple(sorted({*dataset.classes, *extra})))
    if len(dataset.classes) < min_classes:
        only = f"1 class ({dataset.classes[0]})" if dataset.classes else "no class"
        raise DataError(
            f"{dataset.name}: found {only}; need {min_classes}+.",
            field="data" if reading.classes is None else "classes",
            hint="Give images of at least two classes, each with its label."
            if reading.classes is None
            else "Name at least two with --classes, or leave it out.",
        )
    if reading.group_by is not None:
        dataset = group_items(dataset, reading.group_by, joined=reading.test is not None)
    return dataset


def choose_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """Keep the images of some classes; a class's position is its id from now on.

    Raises:
        UnknownName: One of them has no image.
    """
    counts = Counter(item.label for item in dataset.items)
    for name in classes:
        if name not in counts:
            raise UnknownName("class", name, counts, field="classes")
    others = sorted(set(counts) - set(classes))
    notes = dataset.notes
    if others:
        n = sum(counts[name] for name in others)
        what = "1 other class" if len(others) == 1 else f"{len(others)} other classes"
        notes = (*notes, f"{what} with {_images(n)} left out by --classes: {listed(others)}.")
    items = tuple(item for item in dataset.items if item.label in classes)
    return replace(dataset, items=items, classes=tuple(classes), notes=notes)


def group_items(dataset: Dataset, pattern: str, *, joined: bool = False) -> Dataset:
    """Give each image the group that a regular expression finds in its name.

    The group is what the pattern's first group matches, or all that it matches where it has none.
    An image without a match, or with an empty one, stands alone: its group is None.

    Args:
        dataset: The images.
        pattern: The expression.
        joined: Whether the test part is of :func:`with_test`: it is searched for in the names that
            the images have in their own source.

    Raises:
        UsageError: The pattern is none, finds nothing, or finds the same in every name.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"--group-by must be a regular expression, not '{pattern}': {error}.",
            field="group-by",
            hint=r"'part(\d+)' takes the number after part in each name.",
        ) from error
    names = [_own_name(item, joined) for item in dataset.items]
    pairs = zip(dataset.items, names, strict=True)
    items = tuple(replace(item, group=_group(expression, name)) for item, name in pairs)
    sizes = Counter(item.group for item in items if item.group is not None)
    alone = len(items) - sum(sizes.values())
    example = names[0] if names else ""
    if not sizes:
        raise UsageError(
            f"--group-by '{pattern}' matches nothing in the names of {len(items)} images.",
            field="group-by",
            hint=f"It is searched in names such as {example!r}.",
        )
    if len(sizes) == 1 and not alone and len(items) > 1:
        raise UsageError(
            f"--group-by '{pattern}' finds {next(iter(sizes))!r} in every name: all {len(items)} "
            "images would be one group, which can't be split.",
            field="group-by",
            hint=f"Match what differs from group to group in names such as {example!r}.",
        )
    number = "1 group" if len(sizes) == 1 else f"{len(sizes)} groups"
    notes = [f"{number} by '{pattern}'; the largest has {_images(max(sizes.values()))}."]
    if any(item.group is not None for item in dataset.items):
        notes.append("They take the place of the groups that the data names.")
    if alone:
        few = [item.name for item in items if item.group is None][:3]
        notes.append(f"No match and no group: {_images(alone)}, as {', '.join(few)}.")
    return replace(dataset, items=items, notes=(*dataset.notes, *notes))


def with_test(dataset: Dataset, test: Dataset) -> Dataset:
    """Join the images of another source to a data set, as its test part.

    Where that has a test part of its own, it is the one that is taken. The names get ``test/`` put
    before them, so that each stays unique.

    Raises:
        UsageError: The data set has a test part already, or shares files with the other.
    """
    from headstart.data.folders import real_paths  # not above: it brings Pillow along

    own = [item for item in dataset.items if item.split == "test"]
    if own:
        raise UsageError(
            f"{dataset.name} has a test part of its own ({_images(len(own))}, as {own[0].name}), "
            "and --test gives another.",
            field="test",
            hint="Leave --test out, or give as DATA what holds the other images alone.",
        )
    held_out = [item for item in test.items if item.split == "test"]
    taken = held_out or list(test.items)
    learnt = set(real_paths(item.path for item in dataset.items))
    real = real_paths(item.path for item in taken)
    shared = [item.name for item, path in zip(taken, real, strict=True) if path in learnt]
    if shared:
        raise UsageError(
            f"--test holds {_images(len(shared))} that DATA has too ({', '.join(shared[:3])}).",
            field="test",
            hint="Give a source of other images: what was learnt from can't be a test.",
        )
    before = _prefix({item.name.partition("/")[0] for item in dataset.items})
    joined = [replace(item, name=f"{before}/{item.name}", split="test") for item in taken]
    what = "the test part of " if held_out and len(held_out) < len(test.items) else ""
    notes = [f"test is {what}{test.name}: {_images(len(taken))}.", *test.notes]
    return replace(
        dataset,
        items=tuple(sorted((*dataset.items, *joined), key=lambda item: item.name)),
        notes=(*dataset.notes, *notes),
    )


def _require_learnable(dataset: Dataset) -> None:
    """Refuse classes of val and test that train lacks; classes are matched by name."""
    held: dict[str, set[str]] = {}
    for item in dataset.items:
        held.setdefault(item.split or "train", set()).add(item.label)
    learnt = held.pop("train", set())
    if learnt:
        require_learnt(learnt, dict(sorted(held.items())), where=dataset.name, field="data")


def _group(expression: re.Pattern[str], name: str) -> str | None:
    found = expression.search(name)
    if found is None:
        return None
    return found[1 if expression.groups else 0] or None


def _own_name(item: Item, joined: bool) -> str:
    """Return an image's name in its own source, without what ``with_test`` put before it."""
    return item.name.partition("/")[2] if joined and item.split == "test" else item.name


def _prefix(taken: set[str]) -> str:
    """Return ``test``, or ``test-2`` and so on where the other names begin with that."""
    number = 1
    while (name := "test" if number == 1 else f"test-{number}") in taken:
        number += 1
    return name


def _images(n: int) -> str:
    return "1 image" if n == 1 else f"{n} images"
