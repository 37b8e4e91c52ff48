"""Where labelled images come from. Whatever the form, the result is one ``Dataset``.

::

    photos/            class folders, or images with a metadata table   class_folders, metadata
    photos.zip         the same, or images with a table                 unpacked
    labels.csv         a table: .csv, .tsv, .jsonl, .parquet            tables
    images.npz         arrays of pixels and labels                      in_memory
    elpv               a named set, torchvision:Flowers102 too          named
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from headstart.cache import Cache
from headstart.data.choosing import choose, with_test
from headstart.data.class_folders import (
    GIVE_TABLE,
    PART_NAMES,
    class_folders,
    layout,
    read_class_folders,
)
from headstart.data.folders import files_below, files_in, is_folder, is_image, subfolders
from headstart.data.items import Dataset
from headstart.data.named import NAMES, is_name, open_name
from headstart.data.objects.in_memory import as_source
from headstart.data.objects.kept import root_of
from headstart.data.reading import Reading
from headstart.data.tabular.columns import choose_columns, known_names
from headstart.data.tabular.metadata import find_metadata, read_metadata
from headstart.data.tabular.rows import read_rows
from headstart.data.tabular.tables import read_table
from headstart.data.unpacked import unpack
from headstart.errors import DataError, UnknownName, UsageError
from headstart.memory import FileMemory

__all__ = ["TABLES", "absolute", "list_images", "open_dataset"]

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
"""The suffixes of tables, in any letter case."""

_FORMS = (
    f"Give a folder, a table ({', '.join(TABLES)}), a .zip or .npz file or the name of a data set."
)
_SAY_COLUMNS = "say which of its columns are these: --column path=NAME --column label=NAME"
_Opened = tuple[Dataset, frozenset[str]]  # and the fields of the reading that had a meaning


def open_dataset(
    data: str | Path,
    reading: Reading | None = None,
    *,
    min_classes: int = 2,
    cache: Cache | None = None,
) -> Dataset:
    """List the labelled images of a source; nothing is decoded.

    Args:
        data: A folder, a table, a zip file, or the name of a set (``elpv``). A folder that has
            such a name is meant by ``./elpv`` or by a ``Path``.
        reading: How it is read, and what is chosen of it.
        min_classes: The least number of classes: 2 to learn from, 1 to evaluate on, 0 where labels
            are not needed: images without class folders then have the label "".
        cache: Where zip files are unpacked; the user's cache by default.

    Raises:
        UnknownName: There is no such file, folder, set or class.
        UsageError: The reading can't be followed, or has no meaning for this source.
        MissingExtra: The set's package is not installed, or pyarrow for a Parquet file.
        DataError: The source can't be used: too few classes, a table or zip file that is broken,
            or, where it is to be learnt from, classes in val or test that train lacks.
        ResourceError: The cache can't be written.
    """
    reading, cache = reading or Reading(), cache or Cache()
    dataset, meant = _open(data, reading, min_classes, cache)
    if reading.test is not None:
        alone = replace(reading, classes=None, group_by=None, test=None)
        test, meant_too = _open(reading.test, alone, 1, cache)
        dataset, meant = with_test(dataset, test), meant | meant_too
    _require_meaning(data, reading, meant)
    return choose(dataset, reading, min_classes=min_classes)


def list_images(paths: Sequence[Path]) -> list[Path]:
    """Return the images among ``paths``: files as given, folders searched recursively.

    A file that is named is listed even if it is missing or no image, so that it can be reported.
    The order is that of ``paths``, sorted inside each folder; no path comes twice.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if is_folder(path):
            found.update(dict.fromkeys(sorted(filter(is_image, files_below(path)))))
        else:
            found[path] = None
    return list(found)


def absolute(data: str | Path) -> str:
    """Return a source as it is to be called from any folder: a name stays, a path is absolute.

    Links stay too: a table's paths are relative to where it was named.
    """
    return str(data) if is_name(data) or not _exists(data) else str(Path(data).absolute())


def _open(data: str | Path, reading: Reading, min_classes: int, cache: Cache) -> _Opened:
    if isinstance(data, str) and is_name(data):
        meant = {"root"} if data not in NAMES else set()
        return open_name(data, reading, cache=cache), frozenset(meant)
    if not _exists(data):
        raise _unknown(data)
    path = Path(data)
    if path.suffix.lower() == ".npz" and path.is_file():
        kept = Path(as_source(path, cache.given))
        return read_table(kept, Reading(root=root_of(kept, cache.given))), frozenset()
    if (root := root_of(path, cache.given)) is not None:
        reading = replace(reading, root=root)
    if path.is_dir():
        return _folder(path, reading, min_classes)
    if _is_table(path):
        table = read_table(path, reading, labels_needed=min_classes > 0)
        return table, frozenset({"columns", "root"})
    if path.suffix.lower() == ".zip":
        return _zip(path, reading, min_classes, cache)
    what = "an image" if is_image(path) else "a file"
    hint = f"{_FORMS}\n{layout(path.parent)}" if is_image(path) else _FORMS
    raise DataError(f"{path} is {what}, not a source of labelled images.", field="data", hint=hint)


def _folder(root: Path, reading: Reading, min_classes: int) -> _Opened:
    """Read images that a metadata table beside them describes, or else class folders."""
    if metadata := find_metadata(root):
        dataset = read_metadata(root, reading, metadata, labels_needed=min_classes > 0)
        return dataset, frozenset({"columns"})
    dataset = read_class_folders(root, reading, min_classes=min_classes)
    return dataset, frozenset({"nested"})


def _zip(path: Path, reading: Reading, min_classes: int, cache: Cache) -> _Opened:
    """Read what a zip file holds: a folder as it could be given, or images with one table."""
    content = unpack(path, cache.archives, memory=FileMemory(cache.files))
    root = _entered(content, labels_needed=min_classes > 0)
    try:
        dataset, meant = _unpacked(root, reading, min_classes)
    except DataError as error:  # about the file that the user knows
        message = error.message.replace(str(root), str(path))
        hint = error.hint and error.hint.replace(GIVE_TABLE, _SAY_COLUMNS)
        raise DataError(message, field=error.field, hint=hint) from error
    return replace(dataset, name=path.stem if path.stem.strip(".") else "data"), meant


def _unpacked(root: Path, reading: Reading, min_classes: int) -> _Opened:
    tables = [file for file in files_in(root) if _is_table(file)]
    alone = len(tables) == 1 and not find_metadata(root)
    if alone and (_labels(tables[0], reading) or len(class_folders(root, reading.nested)) < 2):
        inside = replace(reading, root=root)
        dataset = read_table(tables[0], inside, labels_needed=min_classes > 0)
        return dataset, frozenset({"columns"})
    return _folder(root, reading, min_classes)


def _labels(table: Path, reading: Reading) -> bool:
    """Tell whether a table is of labelled images: by its columns, or because the user names them.

    Folders of images, such as one a camera, may lie beside it and look like class folders.
    """
    if reading.nested or reading.columns:
        return not reading.nested
    try:
        names = read_rows(table, known_names({})).names
        choose_columns(table, names, {}, needed=("path", "label"))
    except DataError:  # something else, that happens to be called .csv
        return False
    return True


def _entered(folder: Path, *, labels_needed: bool) -> Path:
    """Return the folder that is alone in a zip file, if it holds folders, and so is no class.

    Where labels are not needed it is none anyway: a folder of images without any is as good.
    """
    inner = subfolders(folder)
    alone = len(inner) == 1 and inner[0].name.lower() not in PART_NAMES
    if not alone or any(is_image(path) or _is_table(path) for path in files_in(folder)):
        return folder
    wraps = any(map(_is_table, files_in(inner[0]))) or class_folders(inner[0])
    if not wraps and labels_needed:
        return folder
    return _entered(inner[0], labels_needed=labels_needed)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLES


def _exists(data: str | Path) -> bool:
    try:
        return data != "" and Path(data).exists()  # as a path, "" would be the current folder
    except ValueError:  # a zero byte
        return False
    except PermissionError as error:
        raise DataError(
            f"{data} can't be reached: {error.strerror}.",
            field="data",
            hint="Make the folders above it open to you, or copy it to where you may read.",
        ) from error
    except OSError:  # too long to be a name
        return False


def _require_meaning(data: str | Path, reading: Reading, meant: frozenset[str]) -> None:
    """Refuse what has no meaning for the source, and so was meant for another."""
    asked = {"columns": bool(reading.columns), "root": reading.root is not None}
    asked["nested"] = reading.nested
    about = {
        "columns": ("column", "is about the columns of a table"),
        "root": ("root", "is about the paths in a table, or where a named data set is kept"),
        "nested": ("nested", "is about folders of class folders"),
    }
    for field, (option, what) in about.items():
        if asked[field] and field not in meant:
            raise UsageError(
                f"--{option} {what}, and {data} has none.", field=option, hint="Leave it out."
            )


def _unknown(data: str | Path) -> UnknownName:
    beside = Path(data).parent
    known: list[str] = []
    if _exists(beside) and beside.is_dir():
        files = [it for it in files_in(beside) if _is_table(it) or it.suffix.lower() == ".zip"]
        known = [str(beside / path.name) for path in (*subfolders(beside), *files)]
    close = difflib.get_close_matches(str(data), [*known, *NAMES], n=3, cutoff=0.5)
    guess = f"Did you mean {' or '.join(close)}? " if close else ""
    names = ", ".join([*NAMES, "torchvision:NAME"])
    hint = f"{guess}Looked in {beside.resolve()}; named data sets: {names}."
    return UnknownName("folder, file or data set", str(data), NAMES, field="data", hint=hint)
