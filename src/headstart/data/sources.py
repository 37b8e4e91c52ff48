"""Where labelled images come from: class folders, with or without split folders, and named sets.

::

    photos/cats/1.jpg  photos/dogs/2.jpg            a folder a class
    photos/train/cats/1.jpg  photos/test/cats/9.jpg the same in split folders
    elpv                                            sample data of the package elpv-dataset

Whatever the source, the result is one :class:`~headstart.data.items.Dataset`.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from headstart.data.folders import files_below, files_in, holds_images, is_image, subfolders
from headstart.data.items import Dataset, Item
from headstart.errors import DataError, MissingExtra, UnknownName

__all__ = ["list_images", "open_dataset"]

_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_LAYOUT = """Expected one folder a class (with or without train/ and test/ around them):
  {0}/cats/1.jpg  {0}/cats/2.jpg  …
  {0}/dogs/3.jpg  {0}/dogs/4.jpg  …"""


def open_dataset(data: str | Path, *, min_classes: int = 2) -> Dataset:
    """List the labelled images of a source; nothing is decoded.

    Args:
        data: A folder of class folders, or the name of a known set (``elpv``). A folder that has
            such a name is meant by ``./elpv`` or by a ``Path``.
        min_classes: The least number of classes: 2 to learn from, 1 to evaluate on, 0 where labels
            are not needed: images without class folders then have the label "".

    Raises:
        UnknownName: There is neither a folder nor a set of that name.
        MissingExtra: The set's package is not installed.
        DataError: Too few classes, no class folders, or classes in val or test that train lacks.
    """
    if isinstance(data, str) and data in _NAMED:
        return _NAMED[data]()
    root = Path(data)
    if not root.exists():
        raise _unknown(data)
    if not root.is_dir():
        raise DataError(f"{root} is a file; a folder is needed.", field="data", hint=_layout(root))
    return _from_folder(root, min_classes)


def list_images(paths: Sequence[Path]) -> list[Path]:
    """Return the images among ``paths``: files as given, folders searched recursively.

    A file that is named is listed even if it is missing or no image, so that it can be reported.
    The order is that of ``paths``, sorted inside each folder; no path comes twice.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found.update(dict.fromkeys(sorted(filter(is_image, files_below(path)))))
        else:
            found[path] = None
    return list(found)


def _from_folder(root: Path, min_classes: int) -> Dataset:
    parts, notes = _parts(root)
    folders = {part: _class_folders(folder) for part, folder in parts.items()}
    learnt = {name for part in folders if part in (None, "train") for name in folders[part]}
    classes = sorted(learnt or set().union(*folders.values()))
    if not classes and not min_classes and (images := list_images([root])):
        return _unlabelled(root, images)
    if len(classes) < max(min_classes, 1):
        raise _too_few(root, classes, parts.values(), max(min_classes, 1))
    for part, held in folders.items():
        if extra := sorted(set(held) - set(classes)):
            raise _unlearnt(root, str(part), extra, classes, sorted(held))

    items, others = [], []
    for part, held in folders.items():
        for label, folder in held.items():
            for path in files_below(folder):
                if is_image(path):
                    items.append(Item(path, path.relative_to(root).as_posix(), label, part))
                else:
                    others.append(path)
    notes += _left_out(parts.values(), classes, others)
    items.sort(key=lambda item: item.name)
    return Dataset(root.resolve().name or "data", root, tuple(items), tuple(classes), tuple(notes))


def _unlabelled(root: Path, images: Sequence[Path]) -> Dataset:
    items = [Item(path, path.relative_to(root).as_posix(), "", None) for path in images]
    items.sort(key=lambda item: item.name)
    return Dataset(root.resolve().name or "data", root, tuple(items), ("",))


def _class_folders(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in subfolders(folder) if holds_images(path)}


def _parts(root: Path) -> tuple[dict[str | None, Path], list[str]]:
    """Find the split folders; without any, the root is the one part, named None."""
    folders = _class_folders(root)
    named = {name: part for name in folders if (part := _PARTS.get(name.lower()))}
    held = {name: set(_class_folders(folders[name])) for name in folders} if named else {}
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
    return _given(root, {name: folders[name] for name in parts}, parts, set(folders) - set(parts))


def _given(
    root: Path, folders: dict[str, Path], parts: dict[str, str], left: set[str]
) -> tuple[dict[str | None, Path], list[str]]:
    notes = [
        f"{name}/ is left out: not a train, val or test folder of class folders."
        for name in sorted(left)
    ]
    if len(set(parts.values())) < len(parts):
        raise _unclear(root, sorted(parts))
    if set(parts.values()) == {"train"}:
        (folder,) = folders.values()
        return {None: folder}, [*notes, f"{folder.name}/ stands alone and is the whole data set."]
    by_part: dict[str | None, Path] = {parts[name]: folder for name, folder in folders.items()}
    if set(by_part) == {"train", "val"}:
        by_part["test"] = by_part.pop("val")
        notes.append(f"{by_part['test'].name}/ is the only held-out folder and serves as test.")
    elif "test" in by_part and by_part["test"].name.lower() not in _PARTS:
        notes.append(f"{by_part['test'].name}/ stands beside train/ and serves as test.")
    return by_part, notes


def _left_out(
    parts: Iterable[Path], classes: Sequence[str], others: Sequence[Path]
) -> Iterator[str]:
    parts = list(parts)
    stray: list[Path] = []
    others = list(others)
    for path in (path for folder in parts for path in files_in(folder)):
        (stray if is_image(path) else others).append(path)
    empty = {path.name for folder in parts for path in subfolders(folder)} - set(classes)
    if empty:
        yield f"No class, for want of images: {_listed(sorted(empty))}."
    if stray:
        yield f"{_count(stray, 'image')} beside the class folders left out: {_named(stray)}."
    if others:
        yield f"{_count(others, 'other file')} ignored: {_named(others)}."


def _elpv() -> Dataset:
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("The data set elpv", "samples", field="data")
    root = Path(found.submodule_search_locations[0]) / "data"
    items = []
    for line in (root / "labels.csv").read_text(encoding="utf-8").splitlines():
        name, probability, _cell = line.split()
        label = "defective" if float(probability) >= 0.5 else "functional"
        items.append(Item(root / name, name, label))
    return Dataset(
        name="elpv",
        root=root,
        items=tuple(sorted(items, key=lambda item: item.name)),
        classes=("defective", "functional"),
        notes=(
            "elpv: solar cells under electroluminescence (Buerhop-Lutz et al. 2018, Deitsch et al. "
            "2019 and 2021), licence CC BY-NC-SA 4.0: sample data, not for commercial use.",
            "A cell is defective where its defect probability is at least 0.5.",
        ),
        licence="CC BY-NC-SA 4.0",
    )


_NAMED: dict[str, Callable[[], Dataset]] = {"elpv": _elpv}


def _unknown(data: str | Path) -> UnknownName:
    beside = Path(data).parent
    known = [str(beside / path.name) for path in subfolders(beside)] if beside.is_dir() else []
    close = difflib.get_close_matches(str(data), [*known, *_NAMED], n=3, cutoff=0.5)
    guess = f"Did you mean {' or '.join(close)}? " if close else ""
    hint = f"{guess}Looked in {beside.resolve()}; named data sets: {', '.join(_NAMED)}."
    return UnknownName("folder or data set", str(data), _NAMED, field="data", hint=hint)


def _too_few(root: Path, classes: Sequence[str], parts: Iterable[Path], least: int) -> DataError:
    parts = list(parts)
    images = sum(is_image(path) for folder in parts for path in files_in(folder))
    if classes:
        found = f"found 1 class ({classes[0]}); need {least}+"
    elif images:
        found = f"found {images} images but no class folder; need {least}+"
    else:
        found = "found no image"
    hint = _layout(root)
    inner = parts[0] / classes[0] if classes else root
    if classes and len(_class_folders(inner)) > 1:
        hint = f"Did you mean {inner}?"
    return DataError(f"{root}: {found}.", field="data", hint=hint)


def _unlearnt(
    root: Path, part: str, extra: Sequence[str], classes: Sequence[str], held: Sequence[str]
) -> DataError:
    twins = {name.casefold(): name for name in classes}
    twin = next((name for name in extra if name.casefold() in twins), None)
    hint = f"Every class of {part} must be one that train has: rename or remove the others."
    if twin is not None:
        hint = f"{twin} and {twins[twin.casefold()]} differ only in case: rename one."
    return DataError(
        f"{root}: {part} has classes that train lacks: {_listed(extra)}.\n"
        f"train: {_listed(classes)}\n{part}: {_listed(held)}",
        field="data",
        hint=hint,
    )


def _unclear(root: Path, names: Sequence[str]) -> DataError:
    return DataError(
        f"{root}: which of {_listed(names)} is train, val and test is not clear.",
        field="data",
        hint="Name them train, val and test, one of each, or give a folder that holds only these.",
    )


def _layout(root: Path) -> str:
    return _LAYOUT.format(root.name or root)


def _listed(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + (", …" if len(paths) > 3 else "")


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
