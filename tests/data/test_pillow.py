from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from headstart.data import pillow
from headstart.data.pillow import MAX_PIXELS, reading
from headstart.errors import BadImage
from mutations import tiff

HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


def current() -> int | None:
    """Return the function that libtiff gives its errors to."""
    handler = pillow._set_error_handler(None)
    pillow._set_error_handler(handler)
    return handler


@pytest.fixture
def damaged(tmp_path: Path, noise, encoded) -> Path:
    """A TIFF that libtiff complains about."""
    content = encoded(noise(0, 40, 40), "TIFF", compression="tiff_lzw")
    path = tmp_path / "damaged.tif"
    path.write_bytes(content[:200] + b"\xff" * 400 + content[600:])
    return path


@pytest.fixture
def handler() -> Iterator[tuple[int, list[int]]]:
    """A handler of someone else's, with its calls."""
    calls: list[int] = []
    function = HANDLER(lambda *_: calls.append(1))
    address = ctypes.cast(function, ctypes.c_void_p).value
    before = pillow._set_error_handler(address)
    yield address, calls
    pillow._set_error_handler(before)


needs_libtiff = pytest.mark.skipif(
    pillow._libtiff() is None, reason="Pillow's libtiff can't be reached"
)


@needs_libtiff
def test_libtiff_writes_nothing_to_stderr_and_is_left_as_it_was(damaged, capfd) -> None:
    with pytest.raises(OSError, match="decoder error"), Image.open(damaged) as image:
        image.load()
    assert "code not yet in table" in capfd.readouterr().err, "libtiff must talk about the file"
    before = current()
    assert before is not None
    with pytest.raises(BadImage, match="decoder error"), reading("x"), Image.open(damaged) as image:
        image.load()
    assert capfd.readouterr() == ("", "")
    assert current() == before


@needs_libtiff
def test_a_handler_of_someone_else_is_put_back_by_the_last_to_leave(damaged, handler) -> None:
    address, calls = handler
    inside, go = threading.Event(), threading.Event()

    def stay() -> None:
        with reading("other"):
            inside.set()
            go.wait(10)

    other = threading.Thread(target=stay)
    with reading("x"):
        other.start()
        assert inside.wait(10)
    assert current() is None  # the other thread is still reading
    go.set()
    other.join()
    assert current() == address
    assert calls == []
    with pytest.raises(OSError, match="decoder error"), Image.open(damaged) as image:
        image.load()
    assert calls


def test_where_libtiff_cannot_be_reached_files_are_read_all_the_same(
    tmp_path, noise, monkeypatch
) -> None:
    noise(0).save(tmp_path / "x.tif", compression="tiff_lzw")
    monkeypatch.setattr(pillow, "_libtiff", lambda: None)
    with reading("x"), Image.open(tmp_path / "x.tif") as image:
        image.load()
    assert pillow._set_error_handler(None) is None


OPEN = """
import sys
from PIL import Image
if sys.argv[2:]:
    import headstart.data.pillow
try:
    Image.open(sys.argv[1])
except Exception:
    sys.exit(7)
"""


def test_pillows_log_is_not_written_to_stderr_where_nobody_listens(tmp_path) -> None:
    fields = {256: (3, 4), 257: (3, 4), 258: (3, 8), 262: (3, 1), 273: (4, None), 277: (3, 60_000)}
    path = tmp_path / "channels.tif"
    path.write_bytes(tiff(fields, bytes(16)))
    said = {}
    for ours in ("", "ours"):
        command = [sys.executable, "-c", OPEN, path, *filter(None, [ours])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 7
        said[ours] = done.stderr
    assert "More samples per pixel" in said[""], "the file must be one that Pillow logs about"
    assert said["ours"] == ""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("image file is truncated"), "cut short"),
        (FileNotFoundError(2, "No such file or directory"), "no such file or directory"),
        (Image.DecompressionBombError("?"), f"more than {MAX_PIXELS:,} pixels"),
        (ValueError(b"Token too long: 12\x1b[31m\n345"), "damaged: Token too long: 12 [31m 345"),
        (ValueError("a\x1b]0;title\x07 b"), "damaged: a ]0;title b"),
        (RuntimeError(), "damaged: RuntimeError"),
        (KeyError(3), "damaged: 3"),
    ],
    ids=repr,
)
def test_reasons_are_for_people_and_hold_no_control_codes(error: Exception, reason: str) -> None:
    with pytest.raises(BadImage) as caught, reading("a.jpg"):
        raise error
    assert (caught.value.source, caught.value.reason) == ("a.jpg", reason)
    assert caught.value.__cause__ is error
    assert caught.value.lasting == (not isinstance(error, FileNotFoundError))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError("out of memory when reading image file"),
        OSError("decoder error -9"),
        PermissionError(13, "Permission denied"),
        OSError(5, "Input/output error"),
    ],
    ids=repr,
)
def test_what_is_not_the_images_fault_does_not_last(error: Exception) -> None:
    with pytest.raises(BadImage) as caught, reading("a.jpg"):
        raise error
    assert not caught.value.lasting
    if not isinstance(error, OSError) or not error.strerror:
        assert caught.value.reason == "needs more memory than there is"


def test_an_image_without_a_name_gets_it() -> None:
    with pytest.raises(BadImage) as caught, reading("a.jpg"):
        raise BadImage("<image 3 x 4>", "too dark", lasting=False)
    assert (caught.value.source, caught.value.reason) == ("a.jpg", "too dark")
    assert not caught.value.lasting


def test_interruptions_are_not_the_images_fault() -> None:
    with pytest.raises(KeyboardInterrupt), reading("a.jpg"):
        raise KeyboardInterrupt


def test_warnings_of_others_are_still_seen() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with reading("a.jpg"):
            warnings.warn("ours", stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["ours"]
