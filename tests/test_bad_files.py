"""What FAULTS.md promises of single files, whatever is in them; tests are named after its rows."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, WebPImagePlugin

import headstart
from commands import rows_of, start, without
from headstart.data import loader
from headstart.data.loader import Batch, load
from headstart.data.read import FRAMES, MAX_PIXELS, REPLACED, decode, read_header
from headstart.errors import BadImage
from headstart.inputspec import InputSpec
from headstart.training.pixels import Pixels
from mutations import mutant, originals, with_size
from pictures import picture, write_photos

TRAINED = ["--strategy", "fine-tune", "--epochs", "3", "--batch-size", "8"]
N_MUTANTS = 20_000
CANVASES = 6 * 4 * MAX_PIXELS  # bytes: what an animated WebP of the largest size takes


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder of 2 classes with 20 images each, to be spoilt."""
    return write_photos(tmp_path / "data", each=20)


# The peak of the program's own memory in bytes: Linux's ru_maxrss begins with the peak of the
# process that started it, which is larger than any of these.
PEAK = """
import resource, sys
from pathlib import Path

def memory():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

"""


def apart(program: str, *arguments: object, limit: float = 300) -> str:
    """Run a program in a process of its own, which must write nothing to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


# D2: files cut short


@pytest.mark.parametrize("strategy", [[], TRAINED], ids=["solved", "trained"])
def test_d2_what_failed_where_it_was_decoded_is_not_decoded_again(
    data, tiny, command, tmp_path, own_cache, monkeypatch, strategy: Sequence[str]
) -> None:
    file = data / "cat" / "3.jpg"
    file.write_bytes(file.read_bytes()[:-700])
    more = [*tiny, *strategy, "--max-bad", "5%", "--json"]
    cold = command("fit", data, "--out", tmp_path / "cold", *more).document
    assert cold["failed"] == [{"name": "cat/3.jpg", "reason": "cut short"}]
    opened = []
    decode = loader.decode
    monkeypatch.setattr(
        loader, "decode", lambda source, **how: opened.append(source) or decode(source, **how)
    )
    warm = command("fit", data, "--out", tmp_path / "warm", *more).document
    assert opened == []
    assert warm["failed"] == cold["failed"]
    assert warm["test"] == cold["test"]
    picture(0, 3).save(file)
    assert command("fit", data, "--out", tmp_path / "mended", *more).document["failed"] == []
    assert opened == [file]


# D3: any bytes


READ_MUTANTS = """
import faulthandler, json, os, sys, tempfile
from collections import Counter
from pathlib import Path
from headstart.data.read import MAX_PIXELS, decode, read_header
from headstart.errors import BadImage
from mutations import mutant

def attempt(read, path):
    try:
        return read(path)
    except BadImage as error:
        assert error.source == str(path)
        assert 0 < len(error.reason) <= 80 and error.reason.isprintable(), error.reason
        return error.reason

told, before, handles = Counter(), memory(), None
with tempfile.TemporaryDirectory() as folder:
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        faulthandler.dump_traceback_later(60, exit=True)
        spoilt = mutant(number)
        path = Path(folder, spoilt.name)
        path.write_bytes(spoilt.content)
        header, image = attempt(read_header, path), attempt(decode, path)
        if isinstance(image, str):
            told[image] += 1
        else:
            assert not isinstance(header, str), f"{path.name}: decoded in spite of: {header}"
            assert image.mode in ("L", "RGB") and sorted(image.size) == sorted(
                (header.width, header.height)
            ), path.name
            told["decoded"] += 1
        path.unlink()
        handles = handles or len(os.listdir("/dev/fd"))
    faulthandler.cancel_dump_traceback_later()
    assert len(os.listdir("/dev/fd")) == handles
print(json.dumps({"told": told, "memory": memory() - before}))
"""


@pytest.mark.parametrize("n", [500, pytest.param(N_MUTANTS, marks=pytest.mark.slow)])
def test_d3_damaged_bytes_give_an_image_or_a_reason_and_nothing_else(n: int) -> None:
    found = json.loads(apart(PEAK + READ_MUTANTS, 0, n))
    told = found["told"]
    assert sum(told.values()) == n
    assert 0.2 * n < told["decoded"] < 0.6 * n  # neither all too damaged nor hardly any
    assert len(told) > 20
    assert found["memory"] < CANVASES


def test_d3_the_mutants_are_of_every_format_the_same_again_and_damaged() -> None:
    formats = {read_header_of(content).format for content in originals().values()}
    assert formats == {"JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"}
    some = [mutant(number) for number in range(400)]
    assert some == [mutant(number) for number in range(400)]
    assert {one.kind for one in some} == {mutant(n).kind for n in range(4000)}
    sound = set(originals().values())
    assert sum(one.content in sound for one in some) < 60  # a size that no field holds, say


def read_header_of(content: bytes):
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        return read_header(Path(file.name))


@pytest.fixture(scope="module", params=[300, pytest.param(N_MUTANTS, marks=pytest.mark.slow)])
def mutants(request, tmp_path_factory) -> list[Path]:
    """A folder of damaged files; returns their paths in the order of the folder."""
    folder = tmp_path_factory.mktemp("mutants")
    for number in range(request.param):
        spoilt = mutant(number)
        (folder / spoilt.name).write_bytes(spoilt.content)
    return sorted(folder.iterdir())


def test_d3_damaged_files_through_predict(mutants, tiny_run, capfd) -> None:
    classifier = headstart.load(tiny_run)
    found = classifier.predict(mutants, errors="skip")
    assert capfd.readouterr() == ("", "")
    names = [*(answer.path for answer in found), *(failure.name for failure in found.failed)]
    assert sorted(names) == [str(path) for path in mutants]
    assert all(failure.reason for failure in found.failed)
    assert 0.2 < len(found) / len(mutants) < 0.6

    command = start("predict", tiny_run, mutants[0].parent, "--json")
    out, err = command.communicate(timeout=900)
    assert (command.returncode, err) == (0, "")
    document = json.loads(out)
    assert [answer["path"] for answer in document["predictions"]] == [one.path for one in found]
    assert {item["path"]: item["reason"] for item in document["failed"]} == {
        failure.name: failure.reason for failure in found.failed
    }


def test_d3_damaged_files_through_check(mutants, tmp_path) -> None:
    for number, path in enumerate(mutants):
        folder = tmp_path / "data" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).hardlink_to(path)
    process = start("check", tmp_path / "data", "--max-bad", "100%", "--json")
    out, err = process.communicate(timeout=900)
    assert (process.returncode, err) == (0, "")
    document = json.loads(out)
    refused = {Path(item["path"]).name for item in document["failed"]}
    assert refused == {path.name for path in mutants if isinstance(reason_of(path), str)}
    assert document["n"] + len(refused) == len(mutants)


def reason_of(path: Path) -> str | None:
    try:
        decode(path)
    except BadImage as error:
        return error.reason
    return None


# D5: claims of a huge size


REFUSE = """
import sys
from pathlib import Path
from headstart.data.read import decode, read_header
from headstart.errors import BadImage

before = memory()
for path in sorted(Path(sys.argv[1]).iterdir()):
    for attempt in (read_header, decode):
        try:
            attempt(path)
        except BadImage as error:
            assert "pixels" in error.reason, (path.name, error.reason)
        else:
            raise AssertionError(path.name)
    print(path.name, memory() - before)
"""


def test_d5_huge_sizes_are_refused_by_the_header_and_take_no_memory(tmp_path) -> None:
    side = 16_383  # as far as WebP goes: 268 million pixels
    huge = {name: with_size(content, side, side) for name, content in originals().items()}
    (tmp_path / "bomb.png").write_bytes(_black_png(10_000, 10_000))
    assert (tmp_path / "bomb.png").stat().st_size < 13_000
    for name, content in huge.items():
        assert content != originals()[name], name
        (tmp_path / name).write_bytes(content)
    lines = apart(PEAK + REFUSE, tmp_path).splitlines()
    assert len(lines) == len(huge) + 1
    taken = dict(line.split() for line in lines)
    assert max(map(int, taken.values())) < 5e6, taken


def _black_png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG", compress_level=9)
    return file.getvalue()


# D9: many frames


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Collect the frames that Pillow decodes, by decoder."""
    seen: list[str] = []
    get, next_frame = Image._getdecoder, WebPImagePlugin.WebPImageFile._get_next

    def getting(mode: str, decoder: str, *rest: object) -> object:
        seen.append(decoder)
        return get(mode, decoder, *rest)

    def going_on(image: WebPImagePlugin.WebPImageFile) -> object:
        seen.append("webp")
        return next_frame(image)

    monkeypatch.setattr(Image, "_getdecoder", getting)
    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "_get_next", going_on)
    return seen


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_d9_of_a_thousand_frames_one_is_decoded(tmp_path, decoded, kind: str) -> None:
    frames = [Image.new("RGB", (9, 7), (n % 256, n // 256, 0)) for n in range(1000)]
    file = tmp_path / "frames"
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(file) as image:
        assert image.n_frames == 1000
    decoded.clear()
    assert read_header(file).notes == (FRAMES,)
    assert decoded == []
    assert decode(file).getpixel((0, 0)) == (0, 0, 0)
    assert (decoded.count("webp") or len(decoded)) == 1  # WebP's one frame is then unpacked


# D10: any proportions


@settings(max_examples=60, deadline=None)
@given(
    size=st.one_of(
        st.tuples(st.just(1), st.integers(1, 20_000)),
        st.tuples(st.integers(1, 20_000), st.integers(1, 3)),
        st.tuples(st.integers(1, 300), st.integers(1, 300)),
    ),
    rule=st.sampled_from(["crop", "squash", "pad"]),
    scaled=st.booleans(),
    kind=st.sampled_from(["PNG", "JPEG"]),
)
def test_d10_images_of_any_proportions_are_read(tmp_path_factory, size, rule, scaled, kind) -> None:
    path = tmp_path_factory.getbasetemp() / f"proportions.{kind.lower()}"
    Image.new("RGB", size, (200, 100, 50)).save(path)
    how = {"resize": rule, "decode": "scaled" if scaled else "exact"}
    spec = InputSpec(64, 48, mean=(127.5,) * 3, std=(127.5,) * 3, **how)
    (batch,) = load([path], spec, 1)
    assert isinstance(batch, Batch)
    assert batch.pixels.shape == (1, 64, 48, 3)
    apart = np.abs(batch.pixels[0].astype(int) - (200, 100, 50)).max(axis=-1)
    assert (apart.min() if rule == "pad" else apart.max()) <= 4  # or there is a border


def test_d10_extreme_proportions_through_predict(tmp_path, tiny_run, command) -> None:
    for width, height in ((1, 1), (1, 20_000), (20_000, 1), (2, 3)):
        picture(0, 0).resize((width, height)).save(tmp_path / f"{width}x{height}.png")
    document = command("predict", tiny_run, tmp_path, "--json").document
    assert (len(document["predictions"]), document["failed"]) == (4, [])


# D11: a file that may not be read


CHECK = """
import json, os, sys
from pathlib import Path
from headstart.data.checks.check import check
from headstart.data.sources import open_dataset
from headstart.memory import FileMemory

assert os.geteuid() != 0
data, memory = map(Path, sys.argv[1:])
found = check(open_dataset(data), FileMemory(memory), max_bad=0.1)
print(json.dumps([[item.name, item.reason] for item in found.failed]))
"""
COMMAND = """
import os, sys
from headstart import cli

assert os.geteuid() != 0
sys.argv = ["headstart", *sys.argv[1:]]
sys.exit(cli._run())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter and write to, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def _without_rights(program: str, *arguments: object, home: Path) -> str:
    """Run a program as a user who is not root, for whom a file's mode counts."""
    drop: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root reads every file, and there is no setpriv to be another user")
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        probe = [*drop, sys.executable, "-c", "import headstart.data.read"]
        if subprocess.run(probe, capture_output=True, check=False, cwd="/").returncode:
            pytest.skip("another user can't read the program")
    done = subprocess.run(
        [*drop, sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"HEADSTART_CACHE": str(home / "cache"), "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_d11_a_file_that_may_not_be_read_is_listed(open_folder) -> None:
    data = write_photos(open_folder / "data", classes=("cat", "dog"), each=12)
    secret = data / "cat" / "5.jpg"
    secret.chmod(0)
    given = (CHECK, data, open_folder / "memory.sqlite")
    failed = json.loads(_without_rights(*given, home=open_folder))
    assert failed == [["cat/5.jpg", "permission denied"]]
    secret.chmod(0o644)  # what was not allowed is not remembered as if it were the file's fault
    assert json.loads(_without_rights(*given, home=open_folder)) == []


@pytest.mark.slow
def test_d11_a_file_that_may_not_be_read_is_counted_by_fit(open_folder, tiny) -> None:
    data = write_photos(open_folder / "data", classes=("cat", "dog"), each=12)
    weights = Path(shutil.copy(tiny[3], open_folder))
    weights.chmod(0o644)
    options = [*tiny[:3], weights, *tiny[4:], "--max-bad", "10%", "--out", open_folder / "run"]
    (data / "cat" / "5.jpg").chmod(0)
    report = json.loads(_without_rights(COMMAND, "fit", data, *options, "--json", home=open_folder))
    assert report["failed"] == [{"name": "cat/5.jpg", "reason": "permission denied"}]
    assert sum(report["split"][f"n_{part}"] for part in ("train", "val", "test")) == 23


# D13: any name


NAMES = [
    "a b.jpg",
    "-x.jpg",
    "\N{CAT} \N{SMILING FACE WITH OPEN MOUTH}.jpg",
    unicodedata.normalize("NFC", "é.jpg"),
    unicodedata.normalize("NFD", "é.jpg"),
    "line\nbreak.jpg",
    'quote", comma.jpg',
    "x" * 251 + ".jpg",
    os.fsdecode(b"\xff\xfe.jpg"),
]


def test_d13_any_file_name_is_read_and_told_again(tmp_path, tiny, command) -> None:
    data = write_photos(tmp_path / "data", classes=("cat", "dog"), each=12)
    for number, name in enumerate(NAMES):
        picture(0, 100 + number).save(data / "cat" / name)
    broken = "line\nbreak.jpg"
    (data / "dog" / broken).write_bytes(b"")
    names = {f"cat/{name}" for name in NAMES}
    run = tmp_path / "run"
    fitted = command("fit", data, "--out", run, *tiny, "--max-bad", "5%", "--json").document
    assert [item["name"] for item in fitted["failed"]] == [f"dog/{broken}"]
    written = {row["item"] for row in rows_of(run / "predictions.csv")}
    assert names <= written
    assert len(written) == 24 + len(NAMES)

    table = tmp_path / "answers.csv"
    told = command("predict", run, data, "--json", "--csv", table).document
    paths = {str(data / name) for name in names}
    assert paths <= {answer["path"] for answer in told["predictions"]}
    assert paths <= {row["path"] for row in rows_of(table)}
    assert [item["path"] for item in told["failed"]] == [str(data / "dog" / broken)]

    scores = command("evaluate", run, data, "--max-bad", "5%", "--json").document
    assert [item["path"] for item in scores["failed"]] == [f"dog/{broken}"]
    features = tmp_path / "f.npz"
    asked = [*without(tiny, "--strategy"), "--max-bad", "5%"]
    assert command("embed", data, "--out", features, *asked).code == 0
    with np.load(features) as arrays:
        assert names <= set(map(str, arrays["paths"]))


@pytest.mark.slow
def test_d13_a_name_that_is_not_utf_8_can_be_told_on_stderr(tmp_path, tiny) -> None:
    data = write_photos(tmp_path / "data", classes=("cat", "dog"), each=12)
    (data / "cat" / NAMES[-1]).write_bytes(b"")
    options = ["--out", tmp_path / "run", *tiny, "--max-bad", "5%", "--json"]
    command = start("fit", data, *options, errors="surrogateescape")
    out, err = command.communicate(timeout=900)
    assert command.returncode == 0, err
    assert json.loads(out)["failed"] == [{"name": f"cat/{NAMES[-1]}", "reason": "empty file"}]
    assert "1 of 25 images can't be read" in err


# D21: files that change or vanish


@pytest.fixture
def between(monkeypatch) -> list[Callable[[], None]]:
    """What is done after the check and before any image is decoded."""

    from headstart import fitting

    prepare, acts = fitting.prepare, []

    def acting(*given: object) -> object:
        for act in acts:
            act()
        return prepare(*given)

    monkeypatch.setattr(fitting, "prepare", acting)
    return acts


def spoil(data: Path) -> None:
    (data / "cat" / "3.jpg").unlink()
    picture(1, 77).save(data / "cat" / "4.jpg")


SPOILT = [
    {"name": "cat/3.jpg", "reason": "no such file"},
    {"name": "cat/4.jpg", "reason": REPLACED},
]


@pytest.mark.parametrize("strategy", [[], TRAINED], ids=["solved", "trained"])
def test_d21_what_vanishes_or_is_replaced_before_it_is_decoded_is_left_out(
    data, tiny, command, between, tmp_path, own_cache, strategy: Sequence[str]
) -> None:
    between.append(lambda: spoil(data))
    out, again = tmp_path / "run", tmp_path / "again"
    more = [*tiny, *strategy, "--max-bad", "10%", "--json"]
    report = command("fit", data, "--out", out, *more).document
    assert sorted(report["failed"], key=lambda item: item["name"]) == SPOILT
    assert sum(report["split"][f"n_{part}"] for part in ("train", "val", "test")) == 38
    assert len(rows_of(out / "predictions.csv")) == 38
    (finding,) = [item for item in report["findings"] if item["kind"] == "unreadable"]
    assert REPLACED in finding["message"]

    # The features of the new picture were not remembered as the old one's.
    picture(0, 3, 48).save(data / "cat" / "3.jpg", quality=92)
    picture(0, 4, 48).save(data / "cat" / "4.jpg", quality=92)
    between.clear()
    repaired = command("fit", data, "--out", again, *more).document
    assert repaired["failed"] == []


def test_d21_too_many_that_vanish_are_refused(
    data, tiny, command, between, tmp_path, own_cache
) -> None:
    between.append(lambda: spoil(data))
    message = command("fit", data, "--out", tmp_path / "run", *tiny).refusal(3, lines=5)
    assert "2 of 40 images can't be read" in message
    assert REPLACED in message


def test_d21_what_changes_in_the_second_epoch_changes_nothing_and_is_told(
    data, tiny, command, tmp_path, monkeypatch
) -> None:
    plain = command("fit", data, "--out", tmp_path / "plain", *tiny, *TRAINED, "--json").document
    arrays, epochs = Pixels.arrays, []

    def spoiling(self: Pixels, view: int, order: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        epochs.append(view)
        if view == 2 and (data / "cat" / "3.jpg").exists():
            spoil(data)
        return arrays(self, view, order)

    monkeypatch.setattr(Pixels, "arrays", spoiling)
    report = command("fit", data, "--out", tmp_path / "run", *tiny, *TRAINED, "--json").document
    assert 2 in epochs
    assert not (data / "cat" / "3.jpg").exists()
    assert report["failed"] == []
    written = [(tmp_path / run / "predictions.csv").read_bytes() for run in ("plain", "run")]
    assert written[0] == written[1]
    (finding,) = [item for item in report["findings"] if item["kind"] == "replaced"]
    assert finding["severity"] == "warning"
    assert sorted(finding["files"]) == ["cat/3.jpg", "cat/4.jpg"]
    assert "cat/3.jpg (no such file)" in finding["message"]
    assert "cat/4.jpg (another file)" in finding["message"]
    assert report["test"] == plain["test"]
