"""Contract 4: stopped at any step and taken up again, a run ends as if it had never stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import headstart
from headstart.cache import Cache
from headstart.files import file_digest, read_json
from headstart.strategy.phase import Phase, Rate, Solve, Train
from headstart.strategy.strategy import Strategy
from interruptions import at, events, interrupt, steps_of
from pictures import write_photos

pytestmark = pytest.mark.slow

# Dropout, augmentation, averages, a plateau and patience: all that has a memory or draws.
STRATEGY = Strategy(
    "two steps",
    (
        Phase(
            (Rate("head", 3e-3), Rate("stage:-1", 1e-3), Rate("stage:0..-1", None)),
            Train(epochs=2, batch_size=8, ema=0.6, schedule="plateau", batch_norm="train"),
            "standard",
        ),
        Phase(
            (Rate("head", 1e-2), Rate("stage:0..-1", 1e-3)),
            Train(epochs=4, batch_size=8, optimizer="sgd", patience=2, monitor="log_loss"),
            "light",
        ),
    ),
)


# A solved head, then phases that stay only where they are better, the last of which moves nothing.
LADDER = Strategy(
    "ladder",
    (
        Phase((Rate("head", 1e-3), Rate("stage:0..-1", None)), Solve((100.0, 1.0))),
        Phase(
            (Rate("head", 3e-3), Rate("stage:-1", 1e-3), Rate("stage:0..-1", None)),
            Train(epochs=2, batch_size=8, ema=0.6),
            "light",
            keep="better",
        ),
        Phase(
            (Rate("head", 1e-30), Rate("stage:0..-1", 1e-30)),
            Train(epochs=1, batch_size=8),
            keep="better",
        ),
    ),
)
# New statistics and a new head before the first step, where it may have to go back behind them.
ADAPTED = replace(
    LADDER,
    name="adapted",
    phases=(
        LADDER.phases[0],
        replace(LADDER.phases[1], fit=Train(epochs=2, batch_size=8, batch_norm="adapt")),
    ),
)
NOTHING = replace(LADDER, name="nothing", phases=(LADDER.phases[0], LADDER.phases[2]))


class Stop(Exception):
    """What ends a run where a test wants it to end."""


@pytest.fixture(scope="module", autouse=True)
def in_any_case() -> Iterator[None]:
    """Phases are tried although the head has all of these few val images right."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headstart.phases.LEAST_PUT_RIGHT", 0)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos", each=14, side=40)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def options(small) -> dict:
    return small | {"size": 32, "strategy": STRATEGY, "head": "linear,dropout=0.3"}


@pytest.fixture(scope="module")
def whole(data, options, cache, tmp_path_factory) -> Path:
    """The folder of a run that nobody interrupted."""
    return headstart.fit(
        data, tmp_path_factory.mktemp("runs") / "whole", cache=cache, **options
    ).folder


def crash() -> None:
    raise Stop


def agree(run: Path, whole: Path) -> None:
    """Compare two runs: the weights to the bit, and what the reports say but for the clock."""
    assert file_digest(run / "model" / "model.safetensors") == file_digest(
        whole / "model" / "model.safetensors"
    )
    found, expected = (read_json(folder / "report.json") for folder in (run, whole))
    for part in ("val", "test", "confusion", "per_class", "split"):
        assert found[part] == expected[part], part
    assert (run / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    for one, other in zip(found["training"], expected["training"], strict=True):
        assert timeless(one) == timeless(other)
    assert not (run / "checkpoints").exists()


def timeless(record: dict) -> dict:
    """Leave out what the clock says."""
    kept = {key: value for key, value in record.items() if key != "seconds"}
    kept["epochs"] = [
        {key: value for key, value in epoch.items() if key != "seconds"}
        for epoch in record.get("epochs", ())
    ]
    return kept


def test_there_is_something_to_go_on_with(whole):
    records = read_json(whole / "report.json")["training"]
    assert [record["kind"] for record in records] == ["train", "train"]
    assert records[0]["boundary"] > 0
    assert records[1]["boundary"] == 0
    assert steps_of(whole) >= 9
    kept = [record["best_epoch"] for record in records]
    assert None not in kept


def stopped_and_resumed(data, options, cache, out: Path, *listeners) -> Path:
    with pytest.raises((KeyboardInterrupt, Stop)):
        headstart.fit(data, out, cache=cache, listener=listeners[0], **options)
    for listener in listeners[1:]:
        with pytest.raises((KeyboardInterrupt, Stop)):
            headstart.resume(out, cache=cache, listener=listener)
    assert not (out / "report.json").exists()
    return headstart.resume(out, cache=cache).folder


@pytest.mark.parametrize("number", [3, 8])
def test_a_run_that_was_interrupted_at_a_step_goes_on_from_it(
    number, data, options, cache, whole, tmp_path
):
    out = stopped_and_resumed(data, options, cache, tmp_path / "run", at(number, "step", interrupt))
    agree(out, whole)
    assert steps_of(out) == steps_of(whole)  # none was taken twice


@pytest.mark.slow
def test_at_every_step(data, options, cache, whole, tmp_path):
    for number in range(1, steps_of(whole) + 1):
        run = tmp_path / str(number)
        agree(stopped_and_resumed(data, options, cache, run, at(number, "step", interrupt)), whole)


@pytest.mark.parametrize("number", [pytest.param(2, marks=pytest.mark.slow), 7])
def test_a_run_that_crashed_goes_on_from_its_last_epoch(
    number, data, options, cache, whole, tmp_path
):
    run = tmp_path / "run"
    agree(stopped_and_resumed(data, options, cache, run, at(number, "step", crash)), whole)


@pytest.mark.parametrize(
    "listener",
    [
        lambda: at(2, "phase-start", interrupt),
        lambda: at(4, "stage", interrupt),  # evaluate
        pytest.param(lambda: at(1, "phase-start", interrupt), marks=pytest.mark.slow),
        pytest.param(lambda: at(1, "phase", crash), marks=pytest.mark.slow),
        pytest.param(lambda: at(1, "checkpoint", crash), marks=pytest.mark.slow),
        pytest.param(lambda: at(2, "epoch", crash), marks=pytest.mark.slow),
        pytest.param(lambda: at(4, "stage", crash), marks=pytest.mark.slow),
    ],
    ids=["between", "evaluate", "begin", "phase-done", "checkpoint", "epoch", "evaluate-crash"],
)
def test_between_phases_and_during_the_evaluation_too(
    listener, data, options, cache, whole, tmp_path
):
    agree(stopped_and_resumed(data, options, cache, tmp_path / "run", listener()), whole)


def test_twice_interrupted(data, options, cache, whole, tmp_path):
    listeners = at(2, "step", interrupt), at(3, "step", interrupt), at(2, "step", crash)
    agree(stopped_and_resumed(data, options, cache, tmp_path / "run", *listeners), whole)


@pytest.mark.slow
def test_the_same_fit_again_goes_on_too(data, options, cache, whole, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        headstart.fit(data, out, cache=cache, listener=at(5, "step", interrupt), **options)
    assert headstart.fit(data, out, cache=cache, **options).folder == out
    agree(out, whole)
    assert steps_of(out) == steps_of(whole)


@pytest.mark.slow
def test_a_cold_cache_on_the_way_changes_nothing(data, options, whole, cache, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        headstart.fit(data, out, cache=cache, listener=at(6, "step", interrupt), **options)
    agree(headstart.resume(out, cache=Cache(tmp_path / "other")).folder, whole)


def test_the_log_tells_of_it(data, options, cache, tmp_path):
    out = stopped_and_resumed(data, options, cache, tmp_path / "run", at(7, "step", interrupt))
    story = events(out)
    resumed = [event for event in story if event["event"] == "resume"]
    assert [(event["phase"], event["notes"]) for event in resumed] == [(2, [])]
    steps = [(e["phase"], e["epoch"], e["step"]) for e in story if e["event"] == "step"]
    assert steps == sorted(set(steps))


def test_the_same_seed_is_the_same_bytes_and_another_is_not(data, options, whole, tmp_path):
    again = headstart.fit(data, tmp_path / "again", cache=Cache(tmp_path / "cold"), **options)
    agree(again.folder, whole)
    other = headstart.fit(data, tmp_path / "other", seed=1, split_seed=0, **options)
    assert file_digest(other.folder / "model" / "model.safetensors") != file_digest(
        whole / "model" / "model.safetensors"
    )


@pytest.fixture(scope="module", params=[LADDER, NOTHING], ids=lambda strategy: strategy.name)
def ladder(request, data, small, cache, tmp_path_factory) -> tuple[Path, dict]:
    """A run of phases that may go back, which nobody interrupted, and its options."""
    options = small | {"size": 32, "strategy": request.param}
    run = headstart.fit(data, tmp_path_factory.mktemp("ladder") / "run", cache=cache, **options)
    return run.folder, options


def test_phases_that_may_go_back_decide_the_same_wherever_they_were_stopped(
    ladder, data, cache, tmp_path
):
    folder, options = ladder
    records = read_json(folder / "report.json")["training"]
    assert not records[-1]["keep"]["kept"]
    for number in range(2, steps_of(folder) + 1, 4):
        run = tmp_path / str(number)
        agree(stopped_and_resumed(data, options, cache, run, at(number, "step", interrupt)), folder)
    run = tmp_path / "evaluate"
    crashed = at(len(records), "phase", crash)
    agree(stopped_and_resumed(data, options, cache, run, crashed), folder)


def test_statistics_that_were_adapted_are_not_adapted_again(data, small, cache, tmp_path):
    options = small | {"size": 32, "strategy": ADAPTED}
    whole = headstart.fit(data, tmp_path / "whole", cache=cache, **options).folder
    record = read_json(whole / "report.json")["training"][1]
    assert record["adapted"]["norms"] > 0
    assert "keep" in record
    for number, stop in ((1, interrupt), (5, interrupt), (2, crash)):
        run = tmp_path / f"{number}"
        agree(stopped_and_resumed(data, options, cache, run, at(number, "step", stop)), whole)


def test_a_ladder_of_which_nothing_stays_is_its_solved_head(ladder, data, small, cache, tmp_path):
    folder, options = ladder
    if options["strategy"] is not NOTHING:
        pytest.skip("a phase of it may stay")
    alone = small | {"size": 32, "strategy": replace(NOTHING, phases=NOTHING.phases[:1])}
    probe = headstart.fit(data, tmp_path / "probe", cache=cache, **alone).folder
    assert file_digest(folder / "model" / "model.safetensors") == file_digest(
        probe / "model" / "model.safetensors"
    )
    for part in ("val", "test", "confusion"):
        assert read_json(folder / "report.json")[part] == read_json(probe / "report.json")[part]
