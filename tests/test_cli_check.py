"""The command check, end to end."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image, ImageOps

from checks import write_scenes
from commands import rows_of, tree
from pictures import write_photos

FINDING = {"kind", "severity", "files", "message", "hint"}


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Photos in train and test with a fault of every kind; the folder above is the current one."""
    monkeypatch.chdir(tmp_path)
    train = write_scenes(tmp_path / "photos" / "train", each=14)
    test = write_scenes(tmp_path / "photos" / "test", each=3, first=100)
    (train / "cat" / "bad.jpg").write_text("<html>404</html>")
    shutil.copy(train / "dog" / "3.jpg", train / "dog" / "copy of 3.jpg")
    shutil.copy(train / "dog" / "4.jpg", train / "cat" / "a dog.jpg")
    shutil.copy(train / "dog" / "5.jpg", test / "dog" / "leak.jpg")
    with Image.open(train / "cat" / "6.jpg") as photo:
        photo.resize((50, 50)).save(train / "cat" / "small 6.jpg", quality=80)
    with Image.open(train / "cat" / "7.jpg") as photo:
        ImageOps.mirror(photo).save(test / "cat" / "mirrored.jpg", quality=90)
    return tmp_path


def test_the_summary_is_data_and_the_notes_are_talk(command, faulty):
    (faulty / "photos" / "train" / "cat" / "notes.txt").write_text("x")
    result = command("check", "photos", "--max-bad", "5%")
    assert result.code == 0
    assert result.out.splitlines()[0] == "photos: 39 images in 2 classes; 1 file can't be read"
    assert [line.split() for line in result.out.splitlines()[2:6]] == [
        ["class", "train", "test", "images"],
        ["cat", "16", "4", "20"],
        ["dog", "15", "4", "19"],
        ["all", "31", "8", "39"],
    ]
    assert "train/cat/bad.jpg: an HTML page" in result.out
    assert "headstart check photos --fix fixed.csv" in result.out
    assert result.err.startswith("note      1 other file ignored: notes.txt.")


def test_more_unreadable_files_than_allowed_end_with_3_and_all_findings(command, faulty):
    result = command("check", "photos")
    assert result.code == 3
    assert "error     1 of 40 images can't be read" in result.out
    assert "note " in result.out
    assert "headstart fit photos" not in result.out


def test_json_is_one_document_also_where_fit_would_refuse(command, faulty):
    result = command("check", "photos", "--json")
    assert result.code == 3
    document = result.document
    assert document["n"] == 39
    assert document["classes"] == {"cat": 20, "dog": 19}
    assert document["splits"] == {
        "train": {"cat": 16, "dog": 15},
        "test": {"cat": 4, "dog": 4},
    }
    found = {finding["kind"]: finding for finding in document["findings"]}
    assert all(set(finding) == FINDING for finding in document["findings"])
    assert {"unreadable", "duplicate", "near-duplicate", "label", "split-leak"} <= set(found)
    assert set(found["duplicate"]["files"]) == {"train/dog/3.jpg", "train/dog/copy of 3.jpg"}
    assert set(found["label"]["files"]) == {"train/dog/4.jpg", "train/cat/a dog.jpg"}
    leaks = [set(it["files"]) for it in document["findings"] if it["kind"] == "split-leak"]
    assert {"train/dog/5.jpg", "test/dog/leak.jpg"} in leaks
    assert {"train/cat/7.jpg", "test/cat/mirrored.jpg"} in leaks
    allowed = command("check", "photos", "--json", "--max-bad", "0.1")
    assert allowed.code == 0
    assert allowed.document["usable"]


def test_one_class_is_refused_with_its_findings(command, tmp_path):
    write_photos(tmp_path / "photos", classes=("cats",), each=4)
    result = command("check", tmp_path / "photos")
    assert result.code == 3
    assert "found 1 class (cats); need 2+" in " ".join(result.out.split())
    assert "photos: 4 images in 1 class" in result.out


def test_what_can_t_be_looked_at_is_an_error_as_everywhere(command, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "found no image" in command("check", tmp_path / "empty").refusal(3, lines=6)
    assert "nowhere" in command("check", tmp_path / "nowhere").refusal(2)
    document = command("check", tmp_path / "empty", "--json").document
    assert document["error"]["id"] == "data"


def test_how_the_source_is_read_can_be_said(command, photos):
    document = command("check", photos, "--classes", "owl,cat", "--json").document
    assert document["classes"] == {"owl": 24, "cat": 24}
    shown = command("check", photos, "--classes", "owl,cat", "--group-by", r"\d(\d)?").out
    assert rf"headstart fit {photos} --classes owl,cat --group-by '\d(\d)?'" in shown


def test_the_page_is_written_and_named_last(command, faulty):
    result = command("check", "photos", "--html", "out/check.html")
    assert result.code == 3
    assert result.out.splitlines()[-1] == "out/check.html"
    page = (faulty / "out" / "check.html").read_text()
    assert "headstart check photos --html out/check.html" in page
    assert page.count("<img") > 20
    assert command("check", "photos", "--html", "out/check.html", "--json").document["html"]


def test_a_page_that_can_t_be_written_is_told_at_once(command, faulty, monkeypatch):
    monkeypatch.setattr("headstart.checking.check", None)
    (faulty / "a.html").mkdir()
    (faulty / "file").touch()
    for path, code, words in (
        ("a.txt", 2, "must name a page"),
        ("a.html", 2, "is a folder"),
        ("file/check.html", 5, "can't be written"),
    ):
        assert words in command("check", "photos", "--html", path).refusal(code)
    assert "can't be written" in command("check", "photos", "--fix", "file/f.csv").refusal(5)


def test_a_table_is_proposed_where_it_may_lie(command, faulty, monkeypatch):
    monkeypatch.chdir(faulty / "photos" / "train")
    assert "headstart check .. --fix ../../fixed.csv" in command("check", "..").out


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_fixed_table_can_be_fitted_and_has_no_faults(command, faulty, tiny, suffix):
    photos = faulty / "photos"
    before = tree(photos)
    result = command("check", "photos", "--fix", f"fixed{suffix}")
    assert result.code == 3  # of the data, not of the table
    assert tree(photos) == before
    assert f"next      headstart fit fixed{suffix}  " in result.out
    for line in (
        "left out  train/cat/bad.jpg: can't be read: an HTML page",
        "left out  train/dog/copy of 3.jpg: the same image as train/dog/3.jpg",
        "left out  train/cat/a dog.jpg: the same image is labelled cat and dog",
        "left out  train/dog/4.jpg: the same image is labelled cat and dog",
        "left out  train/dog/5.jpg: the same image as test/dog/leak.jpg",
        "grouped   train/cat/small 6.jpg: near-1: nearly the same image as train/cat/6.jpg",
    ):
        assert line in result.err.splitlines()
    again = command("check", f"fixed{suffix}", "--json")
    assert again.code == 0
    assert again.document["n"] == 34
    kinds = {finding["kind"] for finding in again.document["findings"]}
    assert kinds == {"near-duplicate"}
    plan = command("fit", f"fixed{suffix}", "--dry-run", *tiny)
    assert plan.code == 0, plan.err
    assert "34 images in 2 classes" in plan.out


def test_the_table_s_command_works_from_another_folder(command, faulty, tiny, monkeypatch):
    elsewhere = faulty / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    photos = faulty / "photos"
    document = command("check", photos, "--fix", "fixed.csv", "--json").document
    words = document["fix"]["command"].split()
    assert words[:3] == ["headstart", "fit", "fixed.csv"]
    assert words[3] == "--root"
    assert command(*words[1:], "--dry-run", *tiny).code == 0
    assert {row["split"] for row in rows_of(elsewhere / "fixed.csv")} == {"train", "test"}
    assert len(document["fix"]["changes"]) >= 7


def test_a_table_is_never_written_over_anything(command, faulty):
    (faulty / "fixed.csv").write_text("mine")
    assert "overwrites nothing" in command("check", "photos", "--fix", "fixed.csv").refusal(4)
    assert (faulty / "fixed.csv").read_text() == "mine"
    assert "among the images" in command("check", "photos", "--fix", "photos/f.csv").refusal(2)


def test_a_table_is_written_among_no_images_however_they_were_named(command, faulty):
    (faulty / "link").symlink_to("photos")
    (faulty / "table.csv").write_text("path,label\nphotos/train/cat/1.jpg,cat\n")
    before = tree(faulty / "photos")
    for words in (
        ("link", "--fix", "photos/train/f.csv"),
        ("photos/train", "--test", "photos/test", "--fix", "photos/test/f.csv"),
        ("table.csv", "--fix", "photos/train/cat/f.csv"),
    ):
        assert "among the images" in command("check", *words).refusal(2)
    assert tree(faulty / "photos") == before


def test_a_page_of_someone_else_is_left_alone(command, faulty):
    mine = faulty / "photos" / "index.html"
    mine.write_text("mine")
    assert "no page of a check" in command("check", "photos", "--html", mine).refusal(4)
    assert mine.read_text() == "mine"


def test_no_table_is_written_that_fit_would_refuse(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "photos" / "train", each=4)
    test = write_scenes(tmp_path / "photos" / "test", classes=("cat",), each=2, first=50)
    (test / "dog").mkdir()
    for photo in (tmp_path / "photos" / "train" / "dog").iterdir():
        with Image.open(photo) as opened:
            opened.save(test / "dog" / photo.name, quality=70)
    assert "--fix would write none" in command("check", "photos").out
    result = command("check", "photos", "--fix", "fixed.csv")
    assert result.code == 3
    assert result.err.splitlines()[-1] == (
        "No table was written, since fit would refuse it: "
        "The split: test has classes that train lacks: dog."
    )
    assert not (tmp_path / "fixed.csv").exists()


def test_names_give_a_terminal_no_orders(command, tmp_path):
    root = write_photos(tmp_path / "photos", classes=("cat\x1b[2J", "dog\nowl"), each=6)
    shutil.copy(root / "dog\nowl" / "1.jpg", root / "dog\nowl" / "copy\nof\x1b]0;x\x07.jpg")
    result = command("check", root, "--fix", tmp_path / "fixed.csv")
    assert result.code == 0
    assert not set("\x1b\x07") & set(result.out + result.err)
    assert r"cat\x1b[2J" in result.out
    assert r"  dog\nowl " in result.out
    assert r"left out  dog\nowl/copy\nof\x1b]0;x\x07.jpg: the same" in result.err
    document = command("check", root, "--json").document
    assert list(document["classes"]) == ["cat\x1b[2J", "dog\nowl"]


def test_options_of_the_network_need_deep(command, photos):
    for words in (
        ("--backbone", "timm:x"),
        ("--device", "cpu"),
        ("--size", 64),
        ("--resize", "pad"),
    ):
        assert f"{words[0]} needs --deep" in command("check", photos, *words).refusal(2)


def test_a_table_of_what_lies_in_the_cache_says_so(command, faulty, own_cache):
    shutil.make_archive("zipped", "zip", faulty / "photos")
    result = command("check", "zipped.zip", "--fix", "fixed.csv", "--max-bad", "0.1")
    assert result.code == 0
    assert "note      The images of zipped.zip lie where it was unpacked" in result.err
    assert command("check", "fixed.csv").code == 0
    assert "lie where it was unpacked" not in command("check", "photos", "--fix", "f.csv").err


def test_no_table_is_written_where_one_class_would_be_left(command, tmp_path):
    write_photos(tmp_path / "photos", classes=("cats",), each=4)
    result = command("check", tmp_path / "photos", "--fix", tmp_path / "fixed.csv")
    assert result.code == 3
    assert "No table was written" in result.err
    assert not (tmp_path / "fixed.csv").exists()


def test_names_are_shown_as_they_are(command, tmp_path):
    evil = "<script>alert(1)<"
    root = write_photos(tmp_path / "photos", classes=(evil, "=cmd()"), each=6)
    shutil.copy(root / evil / "1.jpg", root / evil / "{{7*7}}.jpg")
    page, table = tmp_path / "check.html", tmp_path / "fixed.csv"
    result = command("check", root, "--html", page, "--fix", table, "--json")
    assert result.code == 0
    assert result.document["classes"] == {evil: 7, "=cmd()": 6}
    assert evil not in page.read_text()
    assert "{{7*7}}.jpg" in page.read_text()
    assert {row["label"] for row in rows_of(table)} == {evil, "=cmd()"}
    assert json.loads(command("check", table, "--json").out)["n"] == 12


@pytest.mark.slow
def test_deep_adds_what_a_network_sees(command, tmp_path, tiny):
    root = write_scenes(tmp_path / "photos", each=20)
    shutil.move(root / "cat" / "3.jpg", root / "dog" / "cat.jpg")
    page, table = tmp_path / "check.html", tmp_path / "fixed.csv"
    result = command("check", root, "--deep", "--html", page, "--fix", table)
    assert result.code == 0
    assert "labels are in doubt" in result.out
    assert "suspect   dog/cat.jpg: labelled dog, looks like cat" in result.err
    assert "Probably wrong labels" in page.read_text()
    doubted = {row["path"]: row for row in rows_of(table) if row["suggested"]}
    assert doubted["photos/dog/cat.jpg"]["suggested"] == "cat"
    assert doubted["photos/dog/cat.jpg"]["label"] == "dog"
