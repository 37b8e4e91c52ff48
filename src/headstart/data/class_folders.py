"""Class folders: a folder a class, with or without split folders around them.

::

    photos/cats/1.jpg  photos/dogs/2.jpg            a folder a class, with all that is below it
    photos/train/cats/1.jpg  photos/test/cats/9.jpg the same in split folders
    photos/birds/owls/1.jpg  photos/cats/2.jpg      nested: the classes birds/owls and cats
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from headstart.data.folders import (
    files_below,
    files_by_folder,
    files_in,
    holds_images,
    is_folder,
    is_image,
    subfolders,
)
from headstart.data.items import Dataset, Item
from headstart.data.quoting import listed
from headstart.data.reading import Reading
from headstart.errors import DataError

__all__ = ["GIVE_TABLE", "PART_NAMES", "class_folders", "layout", "read_class_folders"]

GIVE_TABLE = "give that file as DATA."
"""What to do with a table beside images; one in a zip file can't be given."""

PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What split folders are called, in lower case, and the part that each one is."""

_LAYOUT = """Expected one folder a class (with or without train/ and test/ around them):
  {0}/cats/1.jpg  {0}/cats/2.jpg  …
  {0}/dogs/3.jpg  {0}/dogs/4.jpg  …"""


def read_class_folders(
    root: Path, reading: Reading | None = None, *, min_classes: int = 2
) -> Dataset:
    """List the images in class folders; nothing is decoded.

    Args:
        root: The folder of class folders, or of split folders.
        reading: Whether classes are ``nested``; which ``classes`` must not be empty; whether
            another source is the ``test``, so that a lone val folder stays val.
        min_classes: The least number of classes. With 0, images without class folders have the
            label "".

    Raises:
        DataError: Too few classes, no class folders, unclear split folders, or a class that is
            asked for has no image.
    """
    reading = reading or Reading()
    parts, notes = _parts(root, reading)
    folders = {part: class_folders(folder, reading.nested) for part, folder in parts.items()}
    learnt = {name for part in folders if part in (None, "train") for name in folders[part]}
    classes = sorted(learnt or set().union(*folders.values()))
    _require_images(root, parts.values(), set().union(*folders.values()), reading.classes or ())
    if not classes and not min_classes and (images := [*filter(is_image, files_below(root))]):
        items = [Item(path, path.relative_to(root).as_posix(), "") for path in images]
        return _dataset(root, items, [""], [])
    if len(classes) < max(min_classes, 1):
        raise _too_few(root, classes, [*parts.values()], max(min_classes, 1), reading)

    items, others = [], []
    for part, held in folders.items():
        for label, path in _files(parts[part], held, reading.nested):
            if is_image(path):
                items.append(Item(path, path.relative_to(root).as_posix(), label, part))
            else:
                others.append(path)
    notes += _left_out(parts.values(), {name for held in folders.values() for name in held}, others)
    if not reading.nested and not any(_is_flat(it) for f in folders.values() for it in f.values()):
        notes.append("All images lie in subfolders of the classes; --nested makes these classes.")
    return _dataset(root, items, classes, notes)


def class_folders(folder: Path, nested: bool = False) -> dict[str, Path]:
    """Return the folders of classes by name.

    Args:
        folder: What holds them.
        nested: Take every folder below that holds images directly, named by its path; else the
            folders directly in it, if there are images in or below them.
    """
    if not nested:
        return {path.name: path for path in subfolders(folder) if holds_images(path)}
    holders = {path for path, files in files_by_folder(folder) if any(map(is_image, files))}
    return {path.relative_to(folder).as_posix(): path for path in sorted(holders - {folder})}


def layout(root: Path) -> str:
    """Return what class folders in ``root`` would look like, drawn."""
    return _LAYOUT.format(root.name or root)


def _dataset(
    root: Path, items: Sequence[Item], classes: Sequence[str], notes: Sequence[str]
) -> Dataset:
    ordered = tuple(sorted(items, key=lambda item: item.name))
    return Dataset(root.resolve().name or "data", root, ordered, tuple(classes), tuple(notes))


def _files(folder: Path, held: Mapping[str, Path], nested: bool) -> Iterator[tuple[str, Path]]:
    """Yield (class, file) of a part; each real file of a class once."""
    if nested:
        names = {path: name for name, path in held.items()}
        for path, files in files_by_folder(folder):
            yield from ((names[path], file) for file in files if path in names)
        return
    for name, path in held.items():
        yield from ((name, file) for file in files_below(path))


def _is_flat(folder: Path) -> bool:
    return any(is_image(path) for path in files_in(folder))


def _parts(root: Path, reading: Reading) -> tuple[dict[str | None, Path], list[str]]:
    """Find the split folders; without any, the root is the one part, named None."""
    folders = class_folders(root)
    named = {name: part for name in folders if (part := PART_NAMES.get(name.lower()))}
    held = {it: set(class_folders(folders[it], reading.nested)) for it in folders if named}
    training = [name for name, part in named.items() if part == "train" and held[name]]
    further = [name for name in folders if name not in training and held.get(name)]
    if named and (len(named) == len(folders) or (training and len(named) > 1)):
        parts = {name: part for name, part in named.items() if held[name]} or named
    elif training and len(folders) == 2 and further:
        parts = named | {further[0]: "test"}
    elif training and sum(not held[name].isdisjoint(held[training[0]]) for name in further) > 1:
        raise _unclear(root, [training[0], *further])
    else:
        return {None: root}, []
    left = sorted(set(folders) - set(parts))
    given, notes = _given(root, {name: folders[name] for name in parts}, parts, reading)
    return given, [
        *(
            f"{name}/ is left out: not a train, val or test folder of class folders."
            for name in left
        ),
        *notes,
    ]


def _given(
    root: Path, folders: dict[str, Path], parts: dict[str, str], reading: Reading
) -> tuple[dict[str | None, Path], list[str]]:
    if len(set(parts.values())) < len(parts):
        raise _unclear(root, sorted(parts))
    if set(parts.values()) == {"train"} and reading.test is None:
        (folder,) = folders.values()
        return {None: folder}, [f"{folder.name}/ stands alone and is the whole data set."]
    by_part: dict[str | None, Path] = {parts[name]: folder for name, folder in folders.items()}
    if set(by_part) == {"train", "val"} and reading.test is None:
        by_part["test"] = by_part.pop("val")
        return by_part, [f"{by_part['test'].name}/ is the only held-out folder and serves as test."]
    if "test" in by_part and by_part["test"].name.lower() not in PART_NAMES:
        return by_part, [f"{by_part['test'].name}/ stands beside train/ and serves as test."]
    return by_part, []


def _left_out(parts: Iterable[Path], classes: set[str], others: Sequence[Path]) -> Iterator[str]:
    """Say what is no class and no image, one sentence each."""
    parts = list(parts)
    stray: list[Path] = []
    others = list(others)
    for path in (path for folder in parts for path in files_in(folder)):
        (stray if is_image(path) else others).append(path)
    full = {name.split("/")[0] for name in classes}
    empty = {path.name for folder in parts for path in subfolders(folder)} - full
    if empty:
        yield f"No class, for want of images: {listed(sorted(empty))}."
    if stray:
        yield f"{_count(stray, 'image')} beside the class folders left out: {_named(stray)}."
    if others:
        yield f"{_count(others, 'other file')} ignored: {_named(others)}."


def _require_images(
    root: Path, parts: Iterable[Path], found: set[str], wanted: Sequence[str]
) -> None:
    """Refuse a class that is asked for, and whose folders are there but empty."""
    parts = list(parts)
    missing = [name for name in wanted if name not in found]
    empty = [name for name in missing if any(is_folder(folder / name) for folder in parts)]
    if empty:
        raise DataError(
            f"{root}: no image is in the folder of {listed(empty)}, which --classes asks for.",
            field="classes",
            hint="Put images there, or take the name out of --classes.",
        )


def _too_few(
    root: Path, classes: Sequence[str], parts: Sequence[Path], least: int, reading: Reading
) -> DataError:
    images = sum(is_image(path) for folder in parts for path in files_in(folder))
    if classes:
        found = f"found 1 class ({classes[0]}); need {least}+"
    elif images:
        found = f"found {_count(range(images), 'image')} but no class folder; need {least}+"
    else:
        found = "found no image"
    hint = layout(root)
    inner = parts[0] / classes[0] if classes else root
    if classes and len(class_folders(inner, reading.nested)) > 1:
        hint = f"Did you mean {inner}?"
    tables = [path for path in files_in(root) if path.suffix.lower() in (".csv", ".tsv", ".jsonl")]
    if len(tables) == 1:
        hint = f"{hint}\nIf {tables[0].name} has the labels, {GIVE_TABLE}"
    return DataError(f"{root}: {found}.", field="data", hint=hint)


def _unclear(root: Path, names: Sequence[str]) -> DataError:
    return DataError(
        f"{root}: which of {listed(names)} is train, val and test is not clear.",
        field="data",
        hint="Name them train, val and test, one of each, or give a folder that holds only these.",
    )


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + (", …" if len(paths) > 3 else "")


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
