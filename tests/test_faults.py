"""What FAULTS.md promises of bad input, through the command line; tests are named after its rows.

The common promise is checked by ``Result.refusal``: a message of at most five lines (a list of
files or a drawn layout excepted), no traceback, nothing on stdout, the right exit code.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audit import watched
from commands import EXTRACTION, tree, without, words
from pictures import picture, write_photos

BROKEN = {
    "empty.jpg": (b"", "empty file"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
    "zero.jpg": (bytes(5000), "only zero bytes"),
    "drawing.jpg": (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "SVG, a drawing"),
}
LISTED = 10  # bad files that a refusal names


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder of 2 classes with 20 images each, to be spoilt."""
    return write_photos(tmp_path / "data", classes=("cat", "dog"), each=20)


@pytest.fixture
def never_solved(monkeypatch):
    """Training a head is an error."""

    def never(*_, **__):
        raise AssertionError("a head was trained")

    monkeypatch.setattr("headstart.phases.solution", never)


def report_of(run: Path) -> dict:
    return json.loads((run / "report.json").read_text())


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def embedded(command, data: Path, tiny, file: Path) -> dict[str, np.ndarray]:
    """Return the features of a data set by name."""
    result = command("embed", data, "--out", file, *without(tiny, "--strategy"))
    assert result.code == 0, result.err
    with np.load(file) as arrays:
        return dict(zip(map(str, arrays["paths"]), arrays["features"], strict=True))


def test_d1_what_is_no_image_is_left_out_with_its_reason(command, data, tiny, tmp_path):
    for name, (content, _) in BROKEN.items():
        (data / "cat" / name).write_bytes(content)
    before, out = tree(data), tmp_path / "run"
    result = command("fit", data, "--out", out, "--max-bad", "10%", *tiny)
    assert result.code == 0
    assert "4 of 44 images can't be read and are left out" in result.err
    report = report_of(out)
    assert {item["name"]: item["reason"] for item in report["failed"]} == {
        f"cat/{name}": reason for name, (_, reason) in BROKEN.items()
    }
    (finding,) = [finding for finding in report["findings"] if finding["kind"] == "unreadable"]
    assert set(finding["files"]) == {f"cat/{name}" for name in BROKEN}
    assert sum(report["split"][f"n_{part}"] for part in ("train", "val", "test")) == 40
    assert "page.jpg" not in (out / "predictions.csv").read_text()
    assert tree(data) == before


def test_d1_too_many_are_refused_with_the_first_ten_names(command, data, tiny, tmp_path):
    for number in range(12):
        (data / "cat" / f"a{number:02}.jpg").write_bytes(b"")
    out = tmp_path / "run"
    message = command("fit", data, "--out", out, *tiny).refusal(3, lines=3 + LISTED)
    assert "12 of 52 images can't be read" in message
    assert "--max-bad" in message
    for number in range(12):
        assert (f"a{number:02}.jpg" in message) == (number < LISTED)
    assert not out.exists()
    one = ["--max-bad", 12 / 52]
    assert command("fit", data, "--out", out, *tiny, *one).code == 0


def test_d1_check_lists_each_with_its_reason(command, data):
    for name, (content, _) in BROKEN.items():
        (data / "cat" / name).write_bytes(content)
    result = command("check", data, "--json")
    assert result.code == 3  # as fit would, with more than 1 % of them
    failed = {item["path"]: item["reason"] for item in result.document["failed"]}
    assert failed == {f"cat/{name}": reason for name, (_, reason) in BROKEN.items()}
    borne = command("check", data, "--max-bad", "10%")
    assert borne.code == 0
    for name, (_, reason) in BROKEN.items():
        assert f"cat/{name}: {reason}" in " ".join(borne.out.split())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_d2_a_file_cut_short_is_found_before_training_starts(
    command, data, tiny, tmp_path, kind, never_solved
):
    whole = encoded(picture(0, 99, side=200), kind)
    for number in range(10):
        cut = whole[: len(whole) * (number + 1) // 11]
        (data / "cat" / f"cut{number}.{kind.lower()}").write_bytes(cut)
    out = tmp_path / "run"
    message = command("fit", data, "--out", out, *tiny).refusal(3, lines=3 + LISTED)
    assert "10 of 50 images can't be read" in message
    for number in range(10):
        assert f"cat/cut{number}" in message
    assert not (out / "report.json").exists()


def test_d2_a_file_cut_short_leaves_its_part_of_the_split(command, data, tiny, tmp_path):
    whole = encoded(picture(0, 99, side=200), "JPEG")
    for number in range(3):
        (data / "cat" / f"cut{number}.jpg").write_bytes(whole[: -1000 - number])
    out = tmp_path / "run"
    result = command("fit", data, "--out", out, "--max-bad", "10%", *tiny, "--json")
    report = result.document
    assert {item["name"] for item in report["failed"]} == {f"cat/cut{n}.jpg" for n in range(3)}
    assert {item["reason"] for item in report["failed"]} == {"cut short"}
    rows = (out / "predictions.csv").read_text().splitlines()[1:]
    assert len(rows) == 40
    counts = [sum(f",{part}," in row for row in rows) for part in ("train", "val", "test")]
    assert counts == [report["split"][f"n_{part}"] for part in ("train", "val", "test")]
    assert report["test"]["accuracy"]["n"] == counts[2]


def test_d4_content_decides_not_the_extension(command, data, tiny, tmp_path):
    image = picture(0, 50)
    image.save(data / "cat" / "right.png")
    shutil.copy(data / "cat" / "right.png", data / "cat" / "wrong.jpg")
    document = command("fit", data, *tiny, "--dry-run", "--json").document
    (finding,) = [item for item in document["findings"] if item["kind"] == "format"]
    assert finding["severity"] == "note"
    assert finding["files"] == ["cat/wrong.jpg"]
    assert "PNG named .jpg" in finding["message"]
    assert document["plan"]["data"]["n"] == 42
    found = embedded(command, data, tiny, tmp_path / "f.npz")
    assert np.array_equal(found["cat/wrong.jpg"], found["cat/right.png"])


RAMP = (np.arange(64 * 64).reshape(64, 64) * 16 + 7).astype(np.uint16)
GREY = (RAMP >> 8).astype(np.uint8)
DEEP = {
    "i16.png": (RAMP, "PNG"),
    "i16.tif": (RAMP, "TIFF"),
    "i32.tif": (RAMP.astype(np.int32), "TIFF"),
    "unit.tif": (GREY.astype(np.float32) / 255, "TIFF"),
    "byte.tif": (GREY.astype(np.float32), "TIFF"),
}


def test_d6_deep_images_are_scaled_to_8_bits(command, data, tiny, tmp_path):
    Image.fromarray(GREY).save(data / "cat" / "grey.png")
    for name, (values, kind) in DEEP.items():
        (data / "cat" / name).write_bytes(encoded(Image.fromarray(values), kind))
    big = b"MM\x00*" + _big_endian(RAMP)
    (data / "cat" / "big.tif").write_bytes(big)
    found = embedded(command, data, tiny, tmp_path / "f.npz")
    for name in (*DEEP, "big.tif"):
        assert np.array_equal(found[f"cat/{name}"], found["cat/grey.png"]), name
    document = command("fit", data, *tiny, "--dry-run", "--json").document
    (finding,) = [item for item in document["findings"] if item["kind"] == "depth"]
    assert set(finding["files"]) == {f"cat/{name}" for name in (*DEEP, "big.tif")}
    assert "scaled to 8" in finding["message"]


def _big_endian(values: np.ndarray) -> bytes:
    """Return a TIFF of 16-bit values in big-endian order, after its first four bytes."""
    height, width = values.shape
    entries = [
        (256, 3, width), (257, 3, height), (258, 3, 16), (259, 3, 1), (262, 3, 1),
        (273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1), (278, 3, height), (279, 4, values.size * 2),
    ]  # fmt: skip
    made = (8).to_bytes(4, "big") + len(entries).to_bytes(2, "big")
    for tag, kind, value in entries:
        field = value.to_bytes(2, "big") + bytes(2) if kind == 3 else value.to_bytes(4, "big")
        made += tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + (1).to_bytes(4, "big") + field
    return made + bytes(4) + values.astype(">u2").tobytes()


def _modes() -> dict[str, bytes]:
    """Return one picture in ten modes, as files."""
    rgb = picture(0, 70)
    alpha = Image.linear_gradient("L").resize(rgb.size)
    clear = rgb.copy()
    clear.putalpha(Image.new("L", rgb.size, 0))
    half = rgb.copy()
    half.putalpha(alpha)
    grey = rgb.convert("L")
    soft = grey.copy()
    soft.putalpha(alpha)
    palette = rgb.quantize(32)
    return {
        "rgb.png": encoded(rgb, "PNG"),
        "grey.png": encoded(grey, "PNG"),
        "one.png": encoded(rgb.convert("1"), "PNG"),
        "palette.png": encoded(palette, "PNG"),
        "clear-palette.png": encoded(palette, "PNG", transparency=3),
        "rgba.png": encoded(half, "PNG"),
        "clear.png": encoded(clear, "PNG"),
        "la.png": encoded(soft, "PNG"),
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG", quality=95),
        "ycbcr.jpg": encoded(rgb.convert("YCbCr"), "JPEG", quality=95),
    }


def test_d7_each_mode_has_one_rule_the_same_in_fit_and_predict(command, data, tiny, tmp_path):
    for name, content in _modes().items():
        (data / "cat" / name).write_bytes(content)
    white = Image.new("RGB", (48, 48), "white")
    white.save(data / "cat" / "white.png")
    out = tmp_path / "run"
    assert command("fit", data, "--out", out, *tiny, "--split", "0.5,0,0.5").code == 0
    written = {}
    for line in (out / "predictions.csv").read_text().splitlines()[1:]:
        item, *_, cat, _dog = line.split(",")
        written[item] = float(cat)
    predicted = command("predict", out, data, "--json").document["predictions"]
    shares = {
        Path(item["path"]).relative_to(data).as_posix(): item["probabilities"]["cat"]
        for item in predicted
    }
    assert len(shares) == 51
    # Seen through, on white: to the network they are one image, which only test has if test has it.
    assert shares["cat/clear.png"] == shares["cat/white.png"]
    assert shares.keys() - written.keys() <= {"cat/clear.png", "cat/white.png"}
    for name, share in written.items():
        assert shares[name] == pytest.approx(share, abs=1e-5), name
    found = embedded(command, data, tiny, tmp_path / "f.npz")
    assert np.array_equal(found["cat/clear.png"], found["cat/white.png"])


def test_d8_every_orientation_is_turned_upright(command, data, tiny, tmp_path):
    upright = picture(0, 80).crop((0, 0, 48, 30))
    stored = {  # how a camera held that way stores it
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for number, turn in stored.items():
        image = upright if turn is None else upright.transpose(turn)
        exif = Image.Exif()
        exif[0x0112] = number
        image.save(data / "cat" / f"way{number}.png", exif=exif)
    found = embedded(command, data, tiny, tmp_path / "f.npz")
    for number in stored:
        assert np.array_equal(found[f"cat/way{number}.png"], found["cat/way1.png"]), number
    out = tmp_path / "run"
    command("fit", data, "--out", out, *tiny)
    images = [data / "cat" / f"way{number}.png" for number in stored]
    predicted = command("predict", out, *images, "--json").document["predictions"]
    assert len({item["probability"] for item in predicted}) == 1


def test_d14_junk_is_never_a_class_and_never_an_image(command, data, tiny, tiny_run, tmp_path):
    image = encoded(picture(1, 5), "PNG")
    for junk in (
        ".ipynb_checkpoints/1-checkpoint.png",
        "__MACOSX/cat/._1.png",
        "cat/.ipynb_checkpoints/2-checkpoint.png",
        "cat/__MACOSX/._2.png",
        "cat/._3.jpg",
        ".hidden/a.png",
    ):
        (data / junk).parent.mkdir(parents=True, exist_ok=True)
        (data / junk).write_bytes(image)
    for name in ("Thumbs.db", "cat/Thumbs.db", ".DS_Store", "dog/.DS_Store", "dog/desktop.ini"):
        (data / name).write_bytes(image)
    document = command("fit", data, *tiny, "--dry-run", "--json").document
    assert document["plan"]["task"]["classes"] == ["cat", "dog"]
    assert document["plan"]["data"]["n"] == 40
    assert document["findings"] == []
    assert command("evaluate", tiny_run, data, "--json").document["metrics"]["accuracy"]["n"] == 40
    assert len(command("predict", tiny_run, data, "--json").document["predictions"]) == 40
    assert len(embedded(command, data, tiny, tmp_path / "f.npz")) == 40


def test_d15_one_class_or_none_is_refused_with_the_expected_layout(command, tiny, tmp_path):
    one, flat, empty = (tmp_path / name for name in ("one", "flat", "empty"))
    write_photos(one, classes=("cats",), each=3)
    flat.mkdir()
    for number in range(3):
        picture(0, number).save(flat / f"{number}.png")
    empty.mkdir()
    for folder, found in (
        (one, "found 1 class (cats); need 2+"),
        (flat, "found 3 images but no class folder; need 2+"),
        (empty, "found no image"),
    ):
        message = command("fit", folder, *tiny).refusal(3)
        assert found in message
        assert str(folder) in message
        assert f"{folder.name}/cats/1.jpg" in message
        assert f"{folder.name}/dogs/3.jpg" in message
        error = command("fit", folder, *tiny, "--json").document["error"]
        assert (error["id"], error["field"]) == ("data", "data")


def test_d15_the_folder_above_the_data_gets_a_hint(command, data, tiny, tmp_path):
    (tmp_path / "above").mkdir()
    data.rename(tmp_path / "above" / "data")
    message = command("fit", tmp_path / "above", *tiny).refusal(3)
    assert f"Did you mean {tmp_path / 'above' / 'data'}?" in message


def test_d16_an_empty_class_folder_is_dropped_and_no_id_shifts(command, data, tiny, tmp_path):
    plain, spoilt = tmp_path / "plain", tmp_path / "spoilt"
    assert command("fit", data, "--out", plain, *tiny).code == 0
    for name in ("bear", "cow", "zebra"):
        (data / name).mkdir()
    (data / "cow" / "notes.txt").write_text("to do")
    result = command("fit", data, "--out", spoilt, *tiny)
    assert "No class, for want of images: bear, cow, zebra." in result.err
    assert report_of(spoilt)["classes"] == ["cat", "dog"]
    texts = [(run / "predictions.csv").read_text() for run in (plain, spoilt)]
    assert texts[0] == texts[1]


def test_d17_a_class_of_a_few_images_is_learnt_from_and_warned_of(command, data, tiny, tmp_path):
    for label, (name, count) in enumerate((("one", 1), ("two", 2), ("three", 3)), start=2):
        (data / name).mkdir()
        for number in range(count):
            picture(label, number).save(data / name / f"{number}.png")
    out = tmp_path / "run"
    result = command("fit", data, "--out", out, *tiny)
    assert result.code == 0
    assert "fewer than 3 different images: one (1), two (2)" in result.err
    report = report_of(out)
    assert "few-images" in {finding["kind"] for finding in report["findings"]}
    rows = [line.split(",") for line in (out / "predictions.csv").read_text().splitlines()[1:]]
    parts = {
        name: sorted(row[1] for row in rows if row[2] == name) for name in ("one", "two", "three")
    }
    assert parts == {
        "one": ["train"],
        "two": ["test", "train"],
        "three": ["test", "train", "val"],
    }
    support = {score["name"]: score["support"] for score in report["per_class"]}
    assert support["one"] == 0


LAYOUTS = {
    "same": (("cat", "dog", "owl"), None),
    "subset": (("cat", "dog"), None),
    "extra": (("cat", "dog", "owl", "pug"), ("pug", "rename or remove")),
    "case": (("Cat", "dog", "owl"), ("Cat", "differ only in case")),
    "other": (("cat", "dog", "pug"), ("pug", "rename or remove")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("part", ["val", "test"])
def test_d18_fit_matches_the_classes_of_its_parts_by_name(command, tiny, tmp_path, layout, part):
    held, complaint = LAYOUTS[layout]
    data = tmp_path / "data"
    write_photos(data / "train", classes=("cat", "dog", "owl"), each=6)
    write_photos(data / "test", classes=("cat", "dog", "owl"), each=3, first=10)
    write_photos(data / "val", classes=("cat", "dog", "owl"), each=3, first=20)
    shutil.rmtree(data / part)
    write_photos(data / part, classes=held, each=4, first=30)
    arguments = ("fit", data, *tiny, "--out", tmp_path / "run")
    if complaint is None:
        report = command(*arguments, "--json").document
        assert report["classes"] == ["cat", "dog", "owl"]
        assert report["split"][f"n_{part}"] == 4 * len(held)
        return
    message = command(*arguments).refusal(3)
    extra, hint = complaint
    assert f"{part} has classes that train lacks: {extra}" in message
    assert "train: cat, dog, owl" in message
    assert f"{part}: {', '.join(sorted(held))}" in message
    assert hint in message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_d18_evaluate_matches_classes_by_name(command, tiny_run, tmp_path, layout):
    held, complaint = LAYOUTS[layout]
    data = write_photos(tmp_path / "data", classes=held, each=4)
    if complaint is None:
        document = command("evaluate", tiny_run, data, "--json").document
        assert [score["name"] for score in document["per_class"]] == ["cat", "dog", "owl"]
        support = [score["support"] for score in document["per_class"]]
        assert support == [4 if name in held else 0 for name in ("cat", "dog", "owl")]
        return
    message = command("evaluate", tiny_run, data).refusal(3)
    assert complaint[0] in message
    assert "It knows: cat, dog, owl" in message
    assert ("Cat to cat" in message) == (layout == "case")


def test_d19_copies_across_a_given_split_are_told_and_leave_train(command, tiny, tmp_path):
    data = tmp_path / "data"
    for part, first, each in (("train", 0, 18), ("test", 40, 8)):
        write_photos(data / part, each=each, first=first, side=96)
    shutil.copy(data / "test/cat/41.jpg", data / "train/cat/copy.jpg")
    for how, number in (("encoded", 42), ("resized", 43), ("flipped", 44)):
        with Image.open(data / f"test/dog/{number}.jpg") as image:
            if how == "resized":
                image = image.resize((80, 80))
            if how == "flipped":
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            image.save(data / f"train/dog/{how}.jpg", quality=80)
    out = tmp_path / "run"
    report = command("fit", data, "--out", out, *tiny, "--json").document
    assert report["split"]["n_train"] + report["split"]["n_val"] == 2 * 18 + 3
    (removed,) = (found for found in report["findings"] if found["kind"] == "removed")
    assert "train/cat/copy.jpg (train) is test/cat/41.jpg (test)" in removed["message"]
    leaks = [found for found in report["findings"] if found["kind"] == "split-leak"]
    for how, number in (("encoded", 42), ("resized", 43), ("flipped", 44)):
        pair = {f"train/dog/{how}.jpg", f"test/dog/{number}.jpg"}
        assert any(pair <= set(found["files"]) for found in leaks), how
    assert report["without_copies"]["left_out"] == 3
    assert report["without_copies"]["test"]["accuracy"]["n"] == 13
    assert report["test"]["accuracy"]["n"] == 16


def test_d19_copies_stay_on_one_side_of_a_split_of_ours(command, data, tiny, tmp_path):
    for number in range(10):
        shutil.copy(data / f"cat/{number}.jpg", data / f"cat/copy{number}.jpg")
        with Image.open(data / f"dog/{number}.jpg") as image:
            image.save(data / f"dog/copy{number}.png")
    out = tmp_path / "run"
    assert command("fit", data, "--out", out, *tiny).code == 0
    lines = (out / "predictions.csv").read_text().splitlines()[1:]
    side = dict(line.split(",")[:2] for line in lines)
    assert len(side) == 60
    for number in range(10):
        assert side[f"cat/{number}.jpg"] == side[f"cat/copy{number}.jpg"]
        assert side[f"dog/{number}.jpg"] == side[f"dog/copy{number}.png"]


ROWS = [f"{name}/{n}.jpg,{name}" for name in ("cat", "dog") for n in range(20)]
TABLES = {  # lines of the table: what is said
    "missing file": (["path,label", *ROWS[:10], *(f"gone/{n}.jpg,cat" for n in range(20))], "row"),
    "missing column": (["path,species", *ROWS], "--column label="),
    "another label": (["path,label", *ROWS, "cat/3.jpg,dog"], "rows 5 and 42"),
    "out of the root": (["path,label", *ROWS, "../../etc/passwd,cat"], "row 42"),
    "no label": (["path,label", *ROWS, "cat/3.jpg,"], "row 42"),
    "no rows": (["path,label"], "no rows"),
}


@pytest.mark.parametrize("name", TABLES)
def test_d20_a_table_that_can_not_be_used_is_told_with_its_rows(command, data, tiny, name):
    lines, said = TABLES[name]
    (data / "labels.csv").write_text("\n".join(lines))
    message = command("fit", data / "labels.csv", *tiny, "--out", data.parent / "run").refusal(3)
    assert "labels.csv" in message
    assert said in message


@pytest.mark.parametrize("form", ["mark", "utf-16", "semicolons", "tabs", "twice", "backslashes"])
def test_d20_a_table_as_spreadsheets_write_it_is_read(command, data, tiny, form):
    lines = ["path,label", *ROWS]
    if form == "twice":
        lines.append(ROWS[3])
    text = "\r\n".join(lines)
    if form == "semicolons":
        text = text.replace(",", ";")
    if form == "tabs":
        text = text.replace(",", "\t")
    if form == "backslashes":
        text = text.replace("/", "\\")
    encoding = {"mark": "utf-8-sig", "utf-16": "utf-16"}.get(form, "utf-8")
    (data / "labels.csv").write_bytes(text.encode(encoding))
    plan = command("fit", data / "labels.csv", *tiny, "--dry-run", "--json").document["plan"]
    assert plan["data"]["n"] == 40
    assert plan["task"]["classes"] == ["cat", "dog"]


def test_d22_evaluation_counts_bad_files_as_failed(command, data, tiny_run):
    whole = encoded(picture(0, 99, side=200), "JPEG")
    (data / "cat" / "cut.jpg").write_bytes(whole[:-800])
    (data / "dog" / "page.jpg").write_bytes(BROKEN["page.jpg"][0])
    document = command("evaluate", tiny_run, data, "--max-bad", "5%", "--json").document
    assert {item["path"]: item["reason"] for item in document["failed"]} == {
        "cat/cut.jpg": "cut short",
        "dog/page.jpg": "an HTML page",
    }
    assert {metric["n"] for metric in document["metrics"].values()} == {40}
    assert sum(map(sum, document["confusion"])) == 40
    message = command("evaluate", tiny_run, data).refusal(3)
    assert "of 42 images can't be read" in message
    talk = command("evaluate", tiny_run, data, "--max-bad", "5%").err
    assert "failed: cat/cut.jpg: cut short" in talk


# The run folder


@contextmanager
def unprivileged(*folders: Path):
    """Lose the rights of root for a while: root may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    for folder in folders:
        folder.chmod(0o777)
    open_ = {folder: folder.stat().st_mode for folder in Path(folders[0]).parents}
    for folder, mode in open_.items():
        folder.chmod(mode | 0o055)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for folder, mode in open_.items():
            folder.chmod(mode)


def test_t4_a_run_folder_that_cannot_be_written_fails_before_any_feature(
    command, photos, tiny, tmp_path, monkeypatch
):
    def never(*_, **__):
        raise AssertionError("features were computed")

    monkeypatch.setattr("headstart.images.extract", never)
    file = tmp_path / "file"
    file.write_text("a file, not a folder")
    message = command("fit", photos, *tiny, "--out", file / "run").refusal(5)
    assert str(file) in message
    assert "Choose another folder" in message


def test_t4_a_read_only_folder_fails_before_any_feature(
    command, photos, tiny, tmp_path, monkeypatch
):
    def never(*_, **__):
        raise AssertionError("features were computed")

    cache = tmp_path / "cache"
    monkeypatch.setenv("HEADSTART_CACHE", str(cache))
    command("fit", photos, *tiny, "--dry-run")  # whatever root has still to import
    monkeypatch.setattr("headstart.images.extract", never)
    locked, closed = tmp_path / "locked", tmp_path / "closed"
    for folder, mode in ((locked, 0o555), (closed, 0o700 if os.geteuid() == 0 else 0o000)):
        folder.mkdir(mode=mode)
    for path in (cache, *cache.rglob("*")):
        path.chmod(0o777)
    for path in (photos.parent, Path(tiny[3]).parent, Path(tiny[3])):
        path.chmod(0o755)
    with unprivileged(cache):
        results = [
            command("fit", photos, *tiny, "--out", folder / "run") for folder in (locked, closed)
        ]
    for folder, result in zip((locked, closed), results, strict=True):
        message = result.refusal(5)
        assert str(folder / "run") in message
        assert "Permission denied" in message
        assert "folder" in message.splitlines()[1]
    closed.chmod(0o700)
    assert list(locked.iterdir()) == list(closed.iterdir()) == []


def test_t4_a_run_folder_that_vanishes_is_never_a_silent_loss(
    command, photos, tiny, tmp_path, monkeypatch
):
    from headstart import images

    out = tmp_path / "run"

    def vanishing(*arguments, **options):
        shutil.rmtree(out)
        return extract(*arguments, **options)

    extract = images.extract
    monkeypatch.setattr(images, "extract", vanishing)
    message = command("fit", photos, *tiny, "--out", out).refusal(5)
    assert str(out / "log.jsonl") in message
    assert not (out / "report.json").exists()


@pytest.mark.parametrize("foreign", ["file", "folder", "other run", "damaged run", "list"])
def test_an_out_that_holds_something_else_is_left_byte_for_byte(
    command, photos, tiny, tiny_run, tmp_path, foreign
):
    out = tmp_path / "out"
    if foreign == "file":
        out.write_text("a letter")
    elif foreign == "folder":
        out.mkdir()
        (out / "letter.txt").write_text("a letter")
    elif foreign == "other run":
        shutil.copytree(tiny_run, out)
    else:
        out.mkdir()
        (out / "spec.json").write_text("{" if foreign == "damaged run" else "[]")
    before = tree(tmp_path)
    message = command("fit", photos, *tiny, "--seed", 5, "--out", out).refusal(4)
    assert str(out) in message
    if foreign == "other run":
        assert "holds another run (other split, seed)" in message
    if foreign != "damaged run":
        assert "Name another folder with --out" in message
    assert tree(tmp_path) == before


# Weights and models


def counting_sockets(*arguments: object, environment: dict[str, str]):
    """Run a command in a process of its own that tells at its end how many sockets it made."""
    code = (
        "import sys\nsockets = []\n"
        "sys.addaudithook(lambda e, a: sockets.append(a) if e == 'socket.__new__' else None)\n"
        f"sys.argv = {words(*arguments)!r}\n"
        "from headstart import cli\ncode = cli._run()\n"
        "print('sockets', len(sockets), file=sys.stderr)\nsys.exit(code)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        timeout=300,
    )


def test_t13_weights_not_cached_and_no_network_is_exit_6_at_once(photos, tmp_path):
    done = counting_sockets(
        *("fit", photos, *EXTRACTION, "--backbone", "timm:resnet50", "--out", tmp_path / "run"),
        environment={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
    )
    assert done.returncode == 6, done.stderr
    *message, sockets = done.stderr.splitlines()
    assert sockets == "sockets 0"
    assert len(message) <= 5
    text = "\n".join(message)
    assert "timm:resnet50.a1_in1k" in text
    assert str(tmp_path / "hub") in text
    assert "headstart models fetch timm:resnet50.a1_in1k" in text
    assert "hf download timm/resnet50.a1_in1k" in text
    assert "--weights FILE" in text
    assert not (tmp_path / "run").exists()


def test_t13_cached_weights_are_used_and_no_socket_is_opened(photos, tiny, tmp_path):
    folder = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    shutil.copy(tiny[3], snapshot / "model.safetensors")
    done = counting_sockets(
        *("fit", photos, *EXTRACTION, "--backbone", "timm:test_resnet"),
        *("--size", 64, "--dry-run"),
        environment={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"},
    )
    assert done.returncode == 0, done.stderr
    assert "from the cache" in done.stdout
    assert done.stderr.splitlines()[-1] == "sockets 0"


class _Payload:
    """Writes a file as soon as it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "the attack ran")


def _attacks(folder: Path, marker: Path) -> dict[str, Path]:
    """Write files that run code when they are read carelessly."""
    import torch

    payload = _Payload(marker)
    files = {name: folder / name for name in (
        "plain.pkl", "old.pkl", "archive.pth", "legacy.pth", "renamed.safetensors", "network.keras",
        "inside.pt",
    )}  # fmt: skip
    files["plain.pkl"].write_bytes(pickle.dumps(payload))
    files["old.pkl"].write_bytes(pickle.dumps(payload, protocol=0))
    torch.save({"state_dict": payload}, files["archive.pth"])
    torch.save(payload, files["legacy.pth"], _use_new_zipfile_serialization=False)
    files["renamed.safetensors"].write_bytes(pickle.dumps(payload))
    with zipfile.ZipFile(files["network.keras"], "w") as archive:
        archive.writestr("config.json", '{"class_name": "Lambda"}')
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n")
    with zipfile.ZipFile(files["inside.pt"], "w") as archive:
        archive.writestr("inside/data.pkl", pickle.dumps(payload, protocol=2))
        archive.writestr("inside/version", "3\n")
    return files


ATTACKS = [
    *("plain.pkl", "old.pkl", "archive.pth", "legacy.pth", "renamed.safetensors"),
    *("network.keras", "inside.pt"),
]


@pytest.mark.parametrize("name", ATTACKS)
def test_m1_a_file_that_could_run_code_is_refused_as_weights(command, photos, tiny, tmp_path, name):
    marker = tmp_path / "marker"
    file = _attacks(tmp_path, marker)[name]
    options = [*without(tiny, "--weights"), "--weights", file]
    message = command("fit", photos, *options, "--out", tmp_path / "run").refusal(4)
    assert message.startswith("unsafe-file: ")
    assert str(file) in message
    assert ".safetensors" in message
    assert not marker.exists()
    assert not (tmp_path / "run").exists()
    asked = without(options, "--strategy")
    assert command("embed", photos, "--out", tmp_path / "f.npz", *asked).code == 4
    assert not marker.exists()
    pickle.loads(pickle.dumps(_Payload(marker)))
    assert marker.exists()  # so the payload does run where it is let


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_m1_a_file_given_as_a_run_is_refused(command, photos, tmp_path, name, verb):
    marker = tmp_path / "marker"
    file = _attacks(tmp_path, marker)[name]
    message = command(verb, file, photos).refusal(4)
    assert message.startswith(f"unsafe-file: {file}")
    assert "run folder" in message
    assert not marker.exists()


@pytest.mark.parametrize("name", ATTACKS)
def test_m1_a_pickle_in_place_of_the_model_file_is_refused(
    command, photos, tiny_run, tmp_path, name
):
    marker = tmp_path / "marker"
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    shutil.copy(_attacks(tmp_path, marker)[name], run / "model" / "model.safetensors")
    message = command("predict", run, photos).refusal(4)
    assert "model.safetensors was changed" in message
    assert not marker.exists()


def zipped(*entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def linked() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        link = zipfile.ZipInfo("cat/link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return file.getvalue()


ARCHIVES = {
    "upwards": lambda: zipped(("../evil.jpg", b"x")),
    "absolute": lambda: zipped(("/absolute/evil.jpg", b"x")),
    "drive": lambda: zipped(("C:/evil.jpg", b"x")),
    "link": linked,
    "bomb": lambda: zipped(("cat/big.jpg", b"0" * 30_000_000)),
    "case": lambda: zipped(("cat/A.jpg", b"x"), ("cat/a.jpg", b"y")),
    "cut": lambda: zipped(("cat/1.jpg", b"x" * 999))[:-30],
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_m3_an_archive_that_is_not_safe_is_refused_before_anything_is_written(
    command, tiny, tmp_path, monkeypatch, name
):
    cache = tmp_path / "cache"
    monkeypatch.setenv("HEADSTART_CACHE", str(cache))
    file = tmp_path / "photos.zip"
    file.write_bytes(ARCHIVES[name]())
    with watched() as deeds:
        message = command("fit", file, *tiny, "--out", tmp_path / "run").refusal(3)
    assert "photos.zip" in message
    assert deeds.outside(cache) == []
    assert not [path for path in cache.rglob("*") if path.suffix == ".jpg"]


@pytest.mark.parametrize(
    "name", ["headstart.json", "model.safetensors", "config.json", "README.md", "MANIFEST.json"]
)
def test_m5_one_changed_byte_is_found(command, photos, tiny_run, tmp_path, name):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    file = run / "model" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for verb in ("predict", "evaluate"):
        message = command(verb, run, photos).refusal(4)
        assert name in message or name == "MANIFEST.json"


def test_m5_a_missing_file_is_named(command, photos, tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (run / "model" / "model.safetensors").unlink()
    message = command("predict", run, photos).refusal(4)
    assert "model.safetensors is missing" in message
    (run / "model" / "MANIFEST.json").unlink()
    assert "has no finished model" in command("predict", run, photos).refusal(4)


def test_no_refusal_reaches_for_the_network_or_writes_beside_the_cache(
    command, tiny, tmp_path, monkeypatch
):
    cache = tmp_path / "cache"
    monkeypatch.setenv("HEADSTART_CACHE", str(cache))
    (tmp_path / "flat").mkdir()
    picture(0, 0).save(tmp_path / "flat" / "a.png")
    with watched() as deeds:
        command("fit", tmp_path / "flat", *tiny).refusal(3)
        command("fit", tmp_path / "nowhere", *tiny).refusal(2)
        command("predict", tmp_path / "nowhere", tmp_path).refusal(4)
    assert deeds.outside(cache) == []
    assert deeds.sockets == 0
