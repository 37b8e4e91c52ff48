"""Checkpoints: what was saved comes back exactly; what went wrong costs one interval at most."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import tree
from headstart.errors import ModelError, ResourceError, UsageError
from headstart.files import file_digest
from headstart.training.checkpoint import Checkpoints, State, _amount

POSIX = pytest.mark.skipif(os.name == "nt", reason="forks and limits processes")


def state(step: int, size: int = 100) -> State:
    """Return a state whose every part tells its step."""
    tensors = {
        "model.weight": torch.full((size,), step, dtype=torch.float32),
        "model.half": torch.full((3, 2), step, dtype=torch.bfloat16),
        "optimizer.step": torch.tensor(step),
        "model.mask": torch.tensor([True, False, step % 2 == 0]),
    }
    return State({"epoch": step, "losses": [1 / 3, step / 7]}, tensors)


def step_of(found: State | None) -> int:
    """Return the step of a state, all parts of which must agree."""
    assert found is not None
    step = found.position["epoch"]
    wanted = state(step, len(found.tensors["model.weight"]))
    assert found.position == wanted.position
    assert set(found.tensors) == set(wanted.tensors)
    for name, tensor in wanted.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)
    return step


def saved(folder: Path, *steps: int, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=keep)
    for step in steps:
        checkpoints.save(state(step))
    return checkpoints


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def both(*numbers: int) -> list[str]:
    return [f"{number:06}.{kind}" for number in numbers for kind in ("json", "safetensors")]


# Saving and loading


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert Checkpoints(tmp_path / "absent").load() == (None, ())
    assert Checkpoints(tmp_path).load() == (None, ())
    assert not (tmp_path / "absent").exists()


def test_the_newest_state_comes_back(tmp_path):
    checkpoints = saved(tmp_path / "run" / "checkpoints", 4, 5)
    found, notes = checkpoints.load()
    assert step_of(found) == 5
    assert notes == ()


def test_the_marker_says_what_the_tensors_are(tmp_path):
    marker = Checkpoints(tmp_path).save(state(1))
    assert marker == tmp_path / "000001.json"
    document = json.loads(marker.read_text())
    assert document["format"] == 1
    assert document["position"] == state(1).position
    assert document["file"] == "000001.safetensors"
    assert document["bytes"] == (tmp_path / "000001.safetensors").stat().st_size
    assert document["sha256"] == file_digest(tmp_path / "000001.safetensors")


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_only_the_newest_are_kept(tmp_path, keep):
    saved(tmp_path, 1, 2, 3, 4, keep=keep)
    assert names(tmp_path) == both(*range(5 - keep, 5))


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"At least 1 checkpoint must be kept, not 0.\nKeep 2"):
        Checkpoints(tmp_path, keep=0)


def test_a_checkpoint_without_tensors_is_one(tmp_path):
    Checkpoints(tmp_path).save(State({}, {}))
    assert Checkpoints(tmp_path).load() == (State({}, {}), ())


def test_clearing_leaves_nothing_of_ours(tmp_path):
    checkpoints = saved(tmp_path / "checkpoints", 1, 2)
    (tmp_path / "checkpoints" / "000007.safetensors").write_bytes(b"killed")
    checkpoints.clear()
    assert not (tmp_path / "checkpoints").exists()
    checkpoints.clear()
    saved(tmp_path / "checkpoints", 1)
    (tmp_path / "checkpoints" / "letter").write_text("another's")
    checkpoints.clear()
    assert names(tmp_path / "checkpoints") == ["letter"]


def test_what_a_killed_save_left_is_never_read_and_removed_by_the_next(tmp_path):
    checkpoints = saved(tmp_path, 1)
    shutil.copy(tmp_path / "000001.safetensors", tmp_path / "000002.safetensors")
    for name in (".000002.safetensors.0a1b2c3d.tmp", ".000002.json.0a1b2c3d.tmp", "letter"):
        (tmp_path / name).write_bytes(b"half")
    found, notes = checkpoints.load()
    assert (step_of(found), notes) == (1, ())
    checkpoints.save(state(3))
    assert names(tmp_path) == [*both(1, 3), "letter"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(
    floats=st.lists(st.floats(allow_nan=False, allow_infinity=False)),
    other=st.dictionaries(st.text(max_size=5), JSON),
)
def test_a_position_comes_back_exactly(floats, other):
    position = {"losses": floats, "other": other}
    with tempfile.TemporaryDirectory() as folder:
        Checkpoints(Path(folder)).save(State(position, {}))
        found, notes = Checkpoints(Path(folder)).load()
    assert found.position == position
    assert [x.hex() for x in found.position["losses"]] == [x.hex() for x in floats]
    assert notes == ()


@pytest.mark.parametrize(
    "position", [{"a": math.nan}, {"a": math.inf}, {"a": (1, 2)}, {1: "a"}, {"a": {2: 1, 10: 2}}]
)
def test_a_position_that_would_not_come_back_is_refused_before_anything_is_written(
    tmp_path, position
):
    saved(tmp_path, 1)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        Checkpoints(tmp_path).save(State(position, {}))
    with pytest.raises(ValueError, match="can't be kept"):
        Checkpoints(tmp_path).save(State({}, {"a": torch.ones(1, dtype=torch.complex64)}))
    assert tree(tmp_path) == before


# T2: a crash at each step of a save


class Disk:
    """All that touches the disk in a save; fails at the ``crash_at``-th step, or from it on."""

    def __init__(self, patch, crash_at: int, number: int, *, lasting: bool = False) -> None:
        self.steps: list[str] = []
        self._crash_at, self._number, self._lasting = crash_at, number, lasting
        for owner, name in ((os, "fsync"), (os, "open"), (Path, "replace"), (Path, "unlink")):
            patch.setattr(owner, name, self._spied(getattr(owner, name), name))
        patch.setattr(Path, "open", self._spied_open(Path.open))

    def _step(self, name: str) -> None:
        self.steps.append(name)
        count = len(self.steps)
        if count == self._crash_at or (self._lasting and count > self._crash_at):
            raise OSError(self._number, os.strerror(self._number))

    def _spied(self, real, name):
        def call(*arguments, **options):
            self._step(name)
            return real(*arguments, **options)

        return call

    def _spied_open(self, real):
        def call(path, mode="r", *arguments, **options):
            if mode != "xb":
                return real(path, mode, *arguments, **options)
            self._step("open")
            return Recorded(real(path, mode, buffering=0), self._step)

        return call


class Recorded:
    """A file for writing that tells of each write."""

    def __init__(self, raw, step) -> None:
        self._raw, self._step = raw, step

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._raw.close()

    def write(self, content) -> int:
        self._step("write")
        return self._raw.write(content)

    def flush(self) -> None:
        self._raw.flush()

    def fileno(self) -> int:
        return self._raw.fileno()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("lasting", [False, True])
def test_t2_a_failure_at_any_step_leaves_the_old_or_the_new_state(
    tmp_path, monkeypatch, number, lasting
):
    raised = 0
    for crash_at in range(1, 100):
        folder = tmp_path / str(crash_at)
        checkpoints = saved(folder, 1, 2)
        (folder / "000001.safetensors.txt").write_text("another's")
        (folder / ".000003.json.00000000.tmp").write_text("left by a killed save")
        with monkeypatch.context() as patch:
            disk = Disk(patch, crash_at, number, lasting=lasting)
            try:
                checkpoints.save(state(3))
            except ResourceError:
                raised += 1
        if not lasting:  # where it could, a failed save took its own files away again
            assert [name for name in both(3) if name in names(folder)] in ([], both(3))
        found, notes = Checkpoints(folder).load()
        assert notes == ()
        assert step_of(found) in (2, 3)
        # Where it went on afterwards, nothing was lost and nothing piled up.
        checkpoints.save(state(4))
        assert step_of(Checkpoints(folder).load()[0]) == 4
        assert len(names(folder)) == len(both(1, 2)) + 1
        if len(disk.steps) < crash_at:
            break
    else:
        pytest.fail("the save had no end")
    assert {"write", "fsync", "replace", "unlink", "open"} == set(disk.steps)
    assert disk.steps.count("fsync") == 4  # of each file, and of the folder after each rename
    assert raised >= 12


def test_t2_the_order_is_tensors_then_marker_then_the_old(tmp_path, monkeypatch):
    checkpoints, order = saved(tmp_path, 1, 2), []

    def told(name, real):
        def call(path, *arguments, **options):
            there = path.exists()
            result = real(path, *arguments, **options)
            if there:
                order.append((name, (arguments[0] if arguments else path).name))
            return result

        return call

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, told(name, getattr(Path, name)))
    checkpoints.save(state(3))
    assert order == [
        ("replace", "000003.safetensors"),
        ("replace", "000003.json"),
        ("unlink", "000001.json"),
        ("unlink", "000001.safetensors"),
    ]


DYING = """
    import os, pathlib, sys
    sys.path.insert(0, sys.argv[2])
    from test_checkpoint import saved, state

    def dying(real, crash_at, count):
        def call(*arguments, **options):
            count[0] += 1
            if count[0] == crash_at:
                os._exit(9)
            return real(*arguments, **options)
        return call

    steps = [(os, "fsync"), (os, "open"), (pathlib.Path, "open"), (pathlib.Path, "replace"),
             (pathlib.Path, "unlink"), (os, "close")]
    for crash_at in range(1, 60):
        checkpoints = saved(pathlib.Path(sys.argv[1]) / str(crash_at), 1, 2)
        child = os.fork()
        if not child:
            count = [0]
            for owner, name in steps:
                setattr(owner, name, dying(getattr(owner, name), crash_at, count))
            checkpoints.save(state(3))
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            print(crash_at)
            break
"""


def run_python(program: str, *arguments: object, shell: tuple[str, ...] = ()) -> str:
    tests = Path(__file__).parent
    words = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    paths = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*shell, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@POSIX
def test_t2_a_process_killed_at_any_step_leaves_the_old_or_the_new_state(tmp_path):
    last = int(run_python(DYING, tmp_path, Path(__file__).parent))
    assert last > 12
    seen = []
    for crash_at in range(1, last + 1):
        folder = tmp_path / str(crash_at)
        found, notes = Checkpoints(folder).load()
        assert notes == ()
        seen.append(step_of(found))
        Checkpoints(folder).save(state(4))
        numbers = sorted({name.partition(".")[0] for name in names(folder)})
        assert len(numbers) == 2
        assert names(folder) == both(*map(int, numbers))
        assert step_of(Checkpoints(folder).load()[0]) == 4
    assert seen == sorted(seen)
    assert set(seen) == {2, 3}


# T3: the disk is full

FULL = """
    import pathlib, sys
    import torch
    from headstart.errors import ResourceError
    from headstart.training.checkpoint import Checkpoints, State

    {limit}
    checkpoints = Checkpoints(pathlib.Path(sys.argv[1]) / "run" / "checkpoints")
    if {first}:
        checkpoints.save(State({{"epoch": 1}}, {{"a": torch.arange(100)}}))
    try:
        checkpoints.save(State({{"epoch": 2}}, {{"a": torch.ones(24_000_000)}}))
    except ResourceError as error:
        print(error)
    print(*sorted(path.name for path in checkpoints.folder.iterdir()))
    found, notes = checkpoints.load()
    print(found and found.position, notes)
    if {first}:
        assert torch.equal(found.tensors["a"], torch.arange(100))
"""
LIMIT = """import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"""


@POSIX
@pytest.mark.parametrize("first", [True, False])
def test_t3_a_file_that_grows_too_large_leaves_the_last_checkpoint(tmp_path, first):
    told = run_python(FULL.format(limit=LIMIT, first=first), tmp_path)
    message, hint, listing, found = told.splitlines()
    folder = tmp_path / "run" / "checkpoints"
    assert message.startswith(f"Checkpoint 00000{1 + first} needs 96 MB, ")
    assert message.endswith(f" free in {folder} (File too large).")
    if first:
        intact = f"Checkpoint 000001 is intact: headstart resume {tmp_path / 'run'}."
        assert hint == f"Free some space. {intact}"
        assert (listing, found) == ("000001.json 000001.safetensors", "{'epoch': 1} ()")
    else:
        assert hint == "Free some space. No checkpoint was saved before."
        assert (listing, found) == ("", "None ()")


def private_mounts() -> bool:
    """Whether this machine lets us mount a small disk that only one process sees."""
    try:
        words = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@POSIX
@pytest.mark.skipif(not private_mounts(), reason="a tmpfs can't be mounted without privileges")
def test_t3_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    mount = 'mount -t tmpfs -o size=64k none "$0" && exec "$@"'
    shell = ("unshare", "-rm", "sh", "-c", mount, str(tmp_path))
    told = run_python(FULL.format(limit="", first=True), tmp_path, shell=shell)
    message, hint, listing, found = told.splitlines()
    assert message.startswith("Checkpoint 000002 needs 96 MB, ")
    assert message.endswith(f" kB free in {tmp_path}/run/checkpoints (No space left on device).")
    assert "Checkpoint 000001 is intact" in hint
    assert (listing, found) == ("000001.json 000001.safetensors", "{'epoch': 1} ()")


def test_t3_a_full_disk_is_told_even_where_the_folder_found_no_room(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ResourceError, match=r"needs .* free in .*No space left") as raised:
        Checkpoints(tmp_path / "run" / "checkpoints").save(state(1))
    assert "No checkpoint was saved before" in raised.value.hint
    assert raised.value.exit_code == 5


def test_another_reason_is_told_as_it_is(tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for act in (checkpoints.load, checkpoints.clear, lambda: checkpoints.save(state(1))):
        with pytest.raises(ResourceError, match="checkpoints can't be read: Not a directory"):
            act()


def test_an_old_one_that_can_t_be_removed_is_told(tmp_path):
    checkpoints = saved(tmp_path, 1, keep=1)
    (tmp_path / "000001.safetensors").unlink()
    (tmp_path / "000001.safetensors").mkdir()
    with pytest.raises(ResourceError, match=r"000001\.safetensors can't be removed"):
        checkpoints.save(state(2))
    assert step_of(checkpoints.load()[0]) == 2


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (60_400, "60 kB"), (96_000_000, "96 MB"), (1.54e9, "1.5 GB")],
)
def test_amounts_are_for_people(size, text):
    assert _amount(int(size)) == text


# T5: a damaged checkpoint


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x01
    path.write_bytes(content)


def test_t5_one_flipped_byte_in_any_region_of_the_tensors_goes_back(tmp_path):
    saved(tmp_path / "first", 1, 2)
    size = (tmp_path / "first" / "000002.safetensors").stat().st_size
    for place in {0, 7, 8, size - 1, *range(0, size, 41)}:
        folder = tmp_path / str(place)
        shutil.copytree(tmp_path / "first", folder)
        flip(folder / "000002.safetensors", place)
        found, notes = Checkpoints(folder).load()
        assert step_of(found) == 1
        assert notes == (
            "checkpoint 000002 is damaged (its sha256 is another); went back to 000001",
        )


def test_t5_one_flipped_byte_anywhere_in_the_json_goes_back(tmp_path):
    saved(tmp_path, 1, 2)
    whole = (tmp_path / "000002.json").read_bytes()
    for place in range(len(whole)):
        flip(tmp_path / "000002.json", place)
        found, notes = Checkpoints(tmp_path).load()
        assert step_of(found) == 1, place
        assert len(notes) == 1
        assert notes[0].startswith("checkpoint 000002 is damaged (")
        assert notes[0].endswith("); went back to 000001")
        (tmp_path / "000002.json").write_bytes(whole)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "000002.safetensors").unlink(), "can't be read: No such file"),
        (lambda folder: os.truncate(folder / "000002.safetensors", 100), "has 100 bytes, not "),
        (lambda folder: os.truncate(folder / "000002.json", 100), "is not valid JSON"),
        (lambda folder: (folder / "000002.json").write_text("[]"), "000002.json is not of format"),
        (lambda folder: (folder / "000002.json").write_text('{"format": 2}'), "not of format 1"),
        (lambda folder: (folder / "000002.json").write_text('{"format": 1}'), "its position's"),
    ],
)
def test_t5_other_damage_goes_back_and_says_what(tmp_path, spoil, reason):
    saved(tmp_path, 1, 2)
    spoil(tmp_path)
    found, (note,) = Checkpoints(tmp_path).load()
    assert step_of(found) == 1
    assert reason in note


def test_t5_a_checkpoint_under_another_number_is_not_believed(tmp_path):
    saved(tmp_path, 1, 2)
    for kind in ("json", "safetensors"):
        shutil.copy(tmp_path / f"000001.{kind}", tmp_path / f"000003.{kind}")
    found, (note,) = Checkpoints(tmp_path).load()
    assert step_of(found) == 2
    assert note.startswith("checkpoint 000003 is damaged")


def test_t5_several_damaged_ones_are_each_named(tmp_path):
    saved(tmp_path, 1, 2, 3, keep=3)
    for number in (2, 3):
        flip(tmp_path / f"{number:06}.safetensors", 200)
    found, notes = Checkpoints(tmp_path).load()
    assert step_of(found) == 1
    assert [note.partition(" is")[0] for note in notes] == [
        "checkpoint 000003",
        "checkpoint 000002",
    ]
    assert all(note.endswith("went back to 000001") for note in notes)


def test_t5_the_one_gone_back_to_is_kept_instead_of_the_damaged_one(tmp_path):
    saved(tmp_path, 1, 2)
    flip(tmp_path / "000002.safetensors", 200)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.load()
    checkpoints.save(state(3))
    assert names(tmp_path) == both(1, 3)
    flip(tmp_path / "000003.safetensors", 200)
    assert step_of(Checkpoints(tmp_path).load()[0]) == 1


def test_t5_where_none_is_whole_that_is_an_error_and_nothing_is_touched(tmp_path):
    saved(tmp_path, 1, 2)
    flip(tmp_path / "000001.json", 5)
    flip(tmp_path / "000002.safetensors", 200)
    before = tree(tmp_path)
    with pytest.raises(ModelError, match=r"000002: its sha256 is another; 000001: ") as raised:
        Checkpoints(tmp_path).load()
    assert str(tmp_path) in raised.value.message
    assert "another folder" in raised.value.hint
    assert raised.value.exit_code == 4
    assert tree(tmp_path) == before
