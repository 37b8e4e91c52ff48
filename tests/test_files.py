from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart import files
from headstart.errors import ModelError, ResourceError
from headstart.files import (
    check_writable,
    digest,
    file_digest,
    read_json,
    replacing,
    write_bytes,
    write_json,
    write_text,
)

OLD, NEW = b"the old state", b"the new state, which is longer"
# A file name may hold a lone surrogate, which stands for a byte that is not UTF-8.
texts = st.text(st.characters() | st.sampled_from("\udc80\udcff"))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
)


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Effects:
    """The steps of a save that touch the disk; fails at the ``crash_at``-th of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, crash_at: int | None = None) -> None:
        self.steps: list[str] = []
        self.crash_at = crash_at
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "open"), (os, "open")):
            monkeypatch.setattr(owner, name, self._spied(getattr(owner, name), owner, name))

    def _spied(self, real, owner, name):
        def spy(*args, **kwargs):
            self.steps.append(f"{owner.__name__}.{name}")
            if len(self.steps) == self.crash_at:
                raise OSError(errno.EIO, "Input/output error")
            return real(*args, **kwargs)

        return spy


def test_content_is_written_whole_and_alone(tmp_path) -> None:
    write_bytes(tmp_path / "new" / "folder" / "file", NEW)
    assert content_of(tmp_path / "new" / "folder") == {"file": NEW}
    write_bytes(tmp_path / "new" / "folder" / "file", OLD)
    assert content_of(tmp_path / "new" / "folder") == {"file": OLD}


def test_until_the_block_ends_the_old_file_is_there(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    with replacing(path) as file:
        file.write(NEW)
        file.flush()
        assert path.read_bytes() == OLD
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(143)])
def test_an_exception_in_the_block_leaves_the_old_file_and_passes(tmp_path, error) -> None:
    def write() -> None:
        with replacing(tmp_path / "file") as file:
            file.write(NEW)
            raise error

    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(type(error)) as raised:
        write()
    assert raised.value is error
    assert content_of(tmp_path) == {"file": OLD}


def test_the_content_is_on_disk_before_the_name_and_the_name_before_the_end(
    tmp_path, monkeypatch
) -> None:
    effects = Effects(monkeypatch)
    write_bytes(tmp_path / "file", NEW)
    flushes = [step for step in effects.steps if step in ("os.fsync", "Path.replace")]
    assert flushes == ["os.fsync", "Path.replace", "os.fsync"]


@pytest.mark.parametrize("old", [OLD, None])
def test_a_failure_at_any_step_leaves_old_or_new_and_nothing_else(
    tmp_path, monkeypatch, old
) -> None:
    steps = 0
    for n in range(1, 20):
        folder = tmp_path / str(n)
        folder.mkdir()
        if old is not None:
            (folder / "file").write_bytes(old)
        with monkeypatch.context() as patch:
            effects = Effects(patch, crash_at=n)
            try:
                write_bytes(folder / "file", NEW)
            except ResourceError:
                steps += 1
        assert content_of(folder) in ({} if old is None else {"file": old}, {"file": NEW})
        if len(effects.steps) < n:
            break
    assert steps >= 4  # open, flush, rename, flush of the folder


def test_a_process_killed_at_any_step_leaves_old_or_new(tmp_path) -> None:
    program = textwrap.dedent(
        """
        import os, pathlib, sys
        from headstart.files import write_bytes

        def dying(real, step):
            def call(*args, **kwargs):
                if step == int(sys.argv[2]):
                    os._exit(9)
                return real(*args, **kwargs)
            return call

        steps = [(os, "fsync"), (pathlib.Path, "replace"), (pathlib.Path, "unlink"), (os, "close")]
        for step, (owner, name) in enumerate(steps):
            setattr(owner, name, dying(getattr(owner, name), step))
        write_bytes(pathlib.Path(sys.argv[1]), b"the new state, which is longer")
        """
    )
    seen = []
    for step in range(5):
        path = tmp_path / str(step) / "file"
        path.parent.mkdir()
        path.write_bytes(OLD)
        done = subprocess.run([sys.executable, "-c", program, str(path), str(step)], check=False)
        assert done.returncode == (9 if step < 4 else 0)
        seen.append(path.read_bytes())
    assert seen == [OLD, OLD, NEW, NEW, NEW]


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EFBIG, "Free some space"),
        (errno.EACCES, "writable"),
        (errno.EROFS, "writable"),
    ],
)
@pytest.mark.parametrize("write", [lambda path: write_bytes(path / "file", NEW), check_writable])
def test_the_hint_fits_the_reason(tmp_path, monkeypatch, number, hint, write) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(ResourceError, match=hint) as raised:
        write(tmp_path)
    assert str(tmp_path) in raised.value.message
    assert os.strerror(number) in raised.value.message


def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    program = textwrap.dedent(
        """
        import pathlib, resource, sys
        from headstart.errors import ResourceError
        from headstart.files import write_bytes

        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_bytes(pathlib.Path(sys.argv[1]), bytes(100_000))
        except ResourceError as error:
            print(error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Free some space" in done.stdout
    assert content_of(tmp_path) == {"file": OLD}


def test_a_file_in_the_place_of_a_folder_is_a_resource_error(tmp_path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    for write in (
        lambda: write_bytes(tmp_path / "file" / "below", NEW),
        lambda: write_bytes(tmp_path / "file" / "far" / "below", NEW),
        lambda: check_writable(tmp_path / "file"),
        lambda: check_writable(tmp_path / "file" / "below"),
    ):
        with pytest.raises(ResourceError, match="can't be written"):
            write()
    assert content_of(tmp_path) == {"file": OLD}


def test_a_folder_in_the_place_of_a_file_is_a_resource_error(tmp_path) -> None:
    (tmp_path / "file" / "below").mkdir(parents=True)
    with pytest.raises(ResourceError, match="can't be written"):
        write_bytes(tmp_path / "file", NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_where_nothing_may_be_removed_the_first_reason_is_told(tmp_path, monkeypatch) -> None:
    def read_only(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(ResourceError, match="Read-only file system"):
        write_bytes(tmp_path / "file", NEW)
    with pytest.raises(ResourceError, match="Read-only file system"):
        check_writable(tmp_path)


def test_a_check_of_a_folder_makes_it_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert content_of(tmp_path / "new" / "folder") == {}

    def full(self: Path, content: bytes) -> None:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ResourceError, match="No space left"):
        check_writable(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@settings(deadline=None)
@given(document=json_values)
def test_json_comes_back_as_it_was(tmp_path_factory, document) -> None:
    path = tmp_path_factory.getbasetemp() / "document.json"
    write_json(path, document)
    assert read_json(path) == document


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_is_not_json_is_not_written(tmp_path, value) -> None:
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "file", {"value": value})
    assert content_of(tmp_path) == {"file": OLD}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[1,]", b"[" * 100_000], ids=lambda c: repr(c[:8])
)
def test_what_is_no_json_is_a_model_error_that_names_the_file(tmp_path, content) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ModelError, match="not valid JSON") as raised:
        read_json(tmp_path / "report.json")
    assert str(tmp_path / "report.json") in raised.value.message


def test_json_that_cannot_be_read_is_a_model_error(tmp_path) -> None:
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(ModelError, match="can't be read"):
            read_json(path)


def test_text_keeps_the_bytes_of_a_file_name(tmp_path) -> None:
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x8c\xb1.jpg")
    write_text(tmp_path / "names", name)
    assert (tmp_path / "names").read_bytes() == os.fsencode(name)


@settings(deadline=None)
@given(
    one=st.lists(st.text() | st.binary(), max_size=4),
    other=st.lists(st.text() | st.binary(), max_size=4),
)
def test_digests_are_equal_exactly_where_the_parts_are(one, other) -> None:
    def as_bytes(parts):
        return [part.encode() if isinstance(part, str) else part for part in parts]

    assert (digest(*one) == digest(*other)) == (as_bytes(one) == as_bytes(other))


def test_the_boundaries_of_parts_count() -> None:
    assert len({digest("ab"), digest("a", "b"), digest("ab", ""), digest("", "ab")}) == 4


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (2 << 20) + 7])
def test_a_files_digest_is_its_sha256(tmp_path, size) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert file_digest(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()


def test_the_digest_of_an_absent_file_is_an_os_error(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "absent")


def test_folders_are_flushed_and_not_left_open(tmp_path, monkeypatch) -> None:
    closed = []
    real = os.close
    monkeypatch.setattr(os, "close", lambda handle: (closed.append(handle), real(handle)))
    files.flush_folder(tmp_path)
    assert len(closed) == 1
