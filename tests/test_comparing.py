"""Many fits on one split: what runs, what is skipped, what is left behind."""

from __future__ import annotations

import json

import pytest

import headstart
from audit import watched
from commands import tree
from comparisons import FakeFit, fake_fits
from headstart.comparing import STRATEGIES, compare
from headstart.comparison import Comparison, read_comparison
from headstart.errors import DataError, ModelError, ResourceError, UnknownName, UsageError
from pictures import write_photos

BACKBONE = "bundled:efficientnet_lite0"
FILES = {"comparison.json", "comparison.csv", "comparison.html", "spec.json"}


@pytest.fixture
def fake(monkeypatch) -> FakeFit:
    """A fit that takes no time."""
    return fake_fits(monkeypatch)


def test_every_combination_is_fitted_on_one_split(fake, photos, tmp_path):
    made = compare(
        photos, strategies=["fine-tune", "gradual"], seeds=2, out=tmp_path / "c", size=64
    )
    assert [(call["strategy"], call["seed"]) for call in fake.calls] == [
        ("fine-tune", 0),
        ("fine-tune", 1),
        ("gradual", 0),
        ("gradual", 1),
    ]
    assert {(call["split_seed"], call["size"]) for call in fake.calls} == {(0, 64)}
    assert [row.run for row in made.rows][:2] == [
        "runs/fine-tune-bundled-efficientnet_lite0-0",
        "runs/fine-tune-bundled-efficientnet_lite0-1",
    ]
    command = fake.calls[1]["command"]
    assert command.startswith(f"headstart.fit({str(photos)!r}, ")
    assert "strategy='fine-tune'" in command
    assert "seed=1" in command


def test_the_defaults_are_three_strategies_and_three_seeds(fake, photos, tmp_path):
    made = compare(photos, out=tmp_path / "c")
    assert [group.label for group in made.summary] == list(STRATEGIES)
    assert len(made.rows) == 9
    assert made.rows[0].backbone == BACKBONE


def test_the_folder_holds_what_it_promises_and_comparison_json_comes_last(fake, photos, tmp_path):
    out = tmp_path / "c"
    with watched() as deeds:
        made = compare(photos, strategies=["fine-tune"], seeds=1, out=out)
    assert {path.name for path in out.iterdir() if path.is_file()} == FILES
    assert (out / "figures" / "accuracy-time.png").is_file()
    renamed = [path for path in deeds.renamed if path.is_relative_to(out)]
    assert renamed[-1] == out / "comparison.json"
    assert read_comparison(out) == made
    assert made.folder == out
    assert made.setup["seeds"] == 1
    assert made.setup["machine"]["cpus"] >= 1


def test_the_same_call_again_does_only_what_is_missing(fake, photos, tmp_path):
    out, ask = tmp_path / "c", {"strategies": ["fine-tune", "gradual"], "seeds": 2}
    first = compare(photos, out=out, **ask)
    before = tree(out)
    assert compare(photos, out=out, **ask) == first
    assert len(fake.calls) == 4
    assert tree(out) == before
    (out / first.rows[1].run / "report.json").unlink()
    again = compare(photos, out=out, **ask)
    assert len(fake.calls) == 5
    assert (fake.calls[-1]["strategy"], fake.calls[-1]["seed"]) == ("fine-tune", 1)
    assert again.rows == first.rows


def test_an_interruption_stops_and_the_next_call_goes_on(fake, photos, tmp_path):
    out, ask = tmp_path / "c", {"strategies": ["fine-tune", "gradual"], "seeds": 1}
    fake.broken["gradual"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        compare(photos, out=out, **ask)
    assert not (out / "comparison.json").exists()
    fake.broken.clear()
    assert len(compare(photos, out=out, **ask).summary) == 2
    assert [call["strategy"] for call in fake.calls] == ["fine-tune", "gradual"]


def test_a_failed_run_is_a_row_with_its_reason_and_is_tried_again(fake, photos, tmp_path):
    out, ask = tmp_path / "c", {"strategies": ["fine-tune", "gradual"], "seeds": 1}
    fake.broken["fine-tune"] = ResourceError("There is no memory left.")
    made = compare(photos, out=out, **ask)
    assert [row.failed for row in made.rows] == ["There is no memory left.", None]
    assert made.rows[0].accuracy is None
    assert [group.label for group in made.summary] == ["gradual"]
    fake.broken.clear()
    assert [row.failed for row in compare(photos, out=out, **ask).rows] == [None, None]


def test_where_every_run_fails_the_first_reason_is_raised(fake, photos, tmp_path):
    fake.broken["fine-tune"] = ResourceError("first")
    fake.broken["gradual"] = DataError("second")
    with pytest.raises(ResourceError, match="first"):
        compare(photos, strategies=["fine-tune", "gradual"], seeds=1, out=tmp_path / "c")


def test_a_bug_in_a_run_is_not_hidden(fake, photos, tmp_path):
    fake.broken["gradual"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        compare(photos, strategies=["fine-tune", "gradual"], seeds=1, out=tmp_path / "c")


def test_runs_on_other_test_images_are_refused(fake, photos, tmp_path):
    fake.longer.add("gradual")
    with pytest.raises(DataError, match="same test images"):
        compare(photos, strategies=["fine-tune", "gradual"], seeds=1, out=tmp_path / "c")


def test_a_folder_that_holds_something_else_is_left_alone(fake, photos, tmp_path):
    out = tmp_path / "c"
    compare(photos, strategies=["fine-tune"], seeds=1, out=out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    before = tree(tmp_path)
    for folder, options in ((out, {"seeds": 2}), (tmp_path / "full", {"seeds": 1})):
        with pytest.raises(ModelError, match="left as it is"):
            compare(photos, strategies=["fine-tune"], out=folder, **options)
    with pytest.raises(ModelError, match="other options"):
        compare(photos, strategies=["fine-tune"], seeds=1, out=out, size=64)
    other = write_photos(tmp_path / "other", each=4, side=16)
    with pytest.raises(ModelError, match="other data"):
        compare(other, strategies=["fine-tune"], seeds=1, out=out)
    assert {path: tree(tmp_path)[path] for path in before} == before
    assert len(fake.calls) == 1


def test_without_a_folder_there_is_one_by_the_datas_name(fake, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [compare(photos, strategies=["fine-tune"], seeds=seeds).folder for seeds in (1, 2, 1)]
    names = ["comparisons/photos", "comparisons/photos-2", "comparisons/photos"]
    assert [str(folder) for folder in folders] == names


def test_nothing_is_written_before_all_names_are_known(fake, photos, tmp_path):
    out = tmp_path / "c"
    for data, options, error in (
        (photos, {"strategies": ["fine-tune", "nothing"]}, UnknownName),
        (photos, {"resize": "bend"}, UsageError),
        (tmp_path / "missing", {}, UnknownName),
        (photos, {"seeds": 0}, UsageError),
    ):
        with pytest.raises(error):
            compare(data, out=out, **options)
    with pytest.raises(UsageError, match="would lie in"):
        compare(photos, out=photos / "c")
    assert not out.exists()
    assert fake.calls == []


def test_the_listener_is_told_of_each_run_before_and_after(fake, photos, tmp_path):
    fake.broken["gradual"] = ResourceError("full")
    events = []
    compare(
        photos,
        strategies=["fine-tune", "gradual"],
        seeds=1,
        out=tmp_path / "c",
        listener=events.append,
    )
    assert [event["event"] for event in events] == ["run", "stage", "ran"] * 2
    assert (events[0]["number"], events[0]["of"], events[0]["strategy"]) == (1, 2, "fine-tune")
    assert events[2]["accuracy"] == pytest.approx(0.7, abs=0.15)
    assert (events[-1]["failed"], events[-1]["accuracy"]) == ("full", None)


@pytest.mark.slow
def test_real_fits_compared(photos, small, tmp_path):
    varied = ("strategy", "backbone")
    ask = {name: value for name, value in small.items() if name not in varied} | {"epochs": 1}
    made = headstart.compare(
        photos,
        strategies=["feature-extraction", "fine-tune"],
        backbones=[small["backbone"]],
        seeds=2,
        out=tmp_path / "c",
        **ask,
    )
    assert isinstance(made, Comparison)
    assert [row.failed for row in made.rows] == [None] * 4
    assert {row.accuracy.n for row in made.rows} == {11}
    assert made.summary[0].trainable < made.summary[1].trainable == made.summary[1].total
    digests = {
        json.loads((tmp_path / "c" / row.run / "report.json").read_text())["split"]["digest"]
        for row in made.rows
    }
    assert digests == {made.setup["split"]["digest"]}


def test_all_runs_read_the_images_alike(fake, photos, tmp_path):
    ask = {"strategies": ["fine-tune"], "seeds": 2, "out": tmp_path / "c"}
    made = compare(photos, classes=("owl", "cat"), group_by=r"(\d+)\.", **ask)
    assert {call["classes"] for call in fake.calls} == {("owl", "cat")}
    assert {call["group_by"] for call in fake.calls} == {r"(\d+)\."}
    spec = json.loads((tmp_path / "c" / "spec.json").read_text())["spec"]
    assert spec["data"]["n"] == 48
    assert compare(photos, classes=("owl", "cat"), group_by=r"(\d+)\.", **ask) == made
    with pytest.raises(ModelError, match="another"):
        compare(photos, classes=("cat", "owl"), **ask)
    with pytest.raises(UnknownName, match="no class named 'cow'"):
        compare(photos, classes=("cow", "owl"), **(ask | {"out": tmp_path / "d"}))


def test_another_split_is_another_comparison(fake, photos, tmp_path):
    """The images and their labels are the same; who is tested is not."""
    out, table = tmp_path / "c", tmp_path / "parts.csv"
    ask = {"strategies": ["fine-tune"], "seeds": 1, "split": table}
    names = [f"{name}/{n}.jpg" for name in ("cat", "dog", "owl") for n in range(24)]
    for share in (3, 4):
        lines = [f"{name},{'train' if i % share else 'test'}" for i, name in enumerate(names)]
        table.write_text("\n".join(["name,split", *lines]))
        if share == 3:
            compare(photos, out=out, **ask)
            compare(photos, out=out, **ask)
    with pytest.raises(ModelError, match="split"):
        compare(photos, out=out, **ask)
    assert len(fake.calls) == 1


def test_runs_are_audited_where_that_is_asked_for(fake, photos, tmp_path):
    for number, options in enumerate(({}, {"audit": True}, {"audit": False})):
        compare(photos, out=tmp_path / str(number), strategies=["fine-tune"], seeds=1, **options)
    assert [call["audit"] for call in fake.calls] == [False, True, False]
