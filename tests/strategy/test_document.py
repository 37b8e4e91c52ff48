from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from headstart.errors import UsageError
from headstart.strategy.document import phase_to_dict, read_strategy, read_toml, write_toml
from headstart.strategy.phase import Phase, Rate, Solve, Train

RATES = [["head", 1.0], ["stage:0..-1", None]]
SOLVE = {"rates": RATES, "solve": {"penalties": [1.0]}}
TRAIN = {"rates": RATES, "train": {"epochs": 3}}


def problems(document: object) -> list[str]:
    with pytest.raises(UsageError) as raised:
        read_strategy(document)  # type: ignore[arg-type]
    assert raised.value.field == "strategy"
    return raised.value.message.removeprefix("This is not a strategy: ").rstrip(".").split("; ")


def test_a_phase_is_written_in_full() -> None:
    phase = Phase((Rate("head", 0.5), Rate("stem", None)), Train(epochs=3), "light", "square")
    assert phase_to_dict(phase) == {
        "rates": [["head", 0.5], ["stem", None]],
        "augment": "light",
        "symmetry": "square",
        "train": asdict(phase.fit),
    }
    solved = phase_to_dict(replace(phase, fit=Solve((2.0,))))
    assert solved["solve"] == {"penalties": [2.0]}
    assert "train" not in solved
    json.dumps([solved, phase_to_dict(phase)], allow_nan=False)


def test_what_a_document_leaves_away_is_the_default() -> None:
    read = read_strategy({"name": "x", "phases": [SOLVE, TRAIN]})
    rates = (Rate("head", 1.0), Rate("stage:0..-1", None))
    assert read == {
        "name": "x",
        "phases": (Phase(rates, Solve((1.0,))), Phase(rates, Train(epochs=3))),
        "weights": "pretrained",
        "backbone": None,
    }


@pytest.mark.parametrize(
    ("phase", "problem"),
    [
        ({}, "needs either solve or train"),
        ({**SOLVE, **TRAIN}, "needs either solve or train"),
        (7, "must be a table, not 7"),
        (
            {**SOLVE, "augmentation": "light"},
            "there is no 'augmentation' (known: augment, keep, rates",
        ),
        ({**SOLVE, "augment": True}, "augment must be a text, not True"),
        ({**TRAIN, "symmetry": None}, "symmetry must be a text, not None"),
        ({"solve": {"penalties": [1.0]}}, "rates must be a list of [pattern, rate]"),
        ({**TRAIN, "rates": []}, "rates must be a list of [pattern, rate]"),
        ({**TRAIN, "rates": {"head": 1}}, "rates must be a list of [pattern, rate]"),
        ({**TRAIN, "rates": [["head"]]}, "a rate must be [pattern, number]"),
        ({**TRAIN, "rates": [["head", "1"]]}, "a rate must be [pattern, number]"),
        ({**TRAIN, "rates": [["head", True]]}, "a rate must be [pattern, number]"),
        ({**TRAIN, "rates": [[1, 1.0]]}, "a rate must be [pattern, number]"),
        ({**TRAIN, "rates": ["head"]}, "a rate must be [pattern, number]"),
        ({**SOLVE, "solve": {}}, "solve must be { penalties = [numbers] }"),
        ({**SOLVE, "solve": {"penalties": 1}}, "solve must be { penalties = [numbers] }"),
        ({**SOLVE, "solve": {"penalties": ["1"]}}, "solve must be { penalties = [numbers] }"),
        ({**SOLVE, "solve": {"penalties": [1], "c": 1}}, "solve must be { penalties = [numbers] }"),
        ({**TRAIN, "train": 3}, "train must be a table, not 3"),
        ({**TRAIN, "train": {}}, "train lacks epochs"),
        ({**TRAIN, "train": {"epochs": 1, "lr": 1}}, "there is no 'lr' (known: batch_norm"),
    ],
)
def test_what_is_wrong_with_a_phase_is_told_with_its_number(phase, problem) -> None:
    (told,) = problems({"name": "x", "phases": [SOLVE, phase]})
    assert told.startswith(f"phase 2: {problem}")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "it must be a table, not []"),
        ({"phases": [SOLVE]}, "name must be a text"),
        ({"name": "", "phases": [SOLVE]}, "name must be a text"),
        ({"name": 3, "phases": [SOLVE]}, "name must be a text"),
        ({"name": "x"}, "phases must be a list of at least one phase"),
        ({"name": "x", "phases": []}, "phases must be a list of at least one phase"),
        ({"name": "x", "phases": 1}, "phases must be a list of at least one phase"),
        ({"name": "x", "phases": [SOLVE], "backbone": 1}, "backbone must be the name of a network"),
        ({"name": "x", "phases": [SOLVE], "lr": 1}, "there is no 'lr' (known: backbone, name"),
    ],
)
def test_what_is_wrong_with_the_whole_is_told(document, problem) -> None:
    (told,) = problems(document)
    assert told.startswith(problem)


def test_everything_wrong_is_told_together_and_in_the_same_order() -> None:
    bad = {"rates": [["head"]], "train": {"zeal": 1, "hope": 2}, "more": 1}
    told = problems({"phases": [bad, 1, {}], "who": 1, "extra": 2})
    starts = [
        *("there is no 'extra'", "there is no 'who'", "name must", "phase 1: there is no 'more'"),
        *("phase 1: a rate must", "phase 1: there is no 'hope'", "phase 1: there is no 'zeal'"),
        *("phase 1: train lacks epochs", "phase 2: must be a table", "phase 3: needs either"),
    ]
    assert len(told) == len(starts)
    assert all(part.startswith(start) for part, start in zip(told, starts, strict=True))


def test_errors_name_the_source() -> None:
    with pytest.raises(
        UsageError, match=r"^my\.toml is not a strategy: it must be a table"
    ) as raised:
        read_strategy([], "my.toml")  # type: ignore[arg-type]
    assert "to_toml()" in raised.value.hint


def test_nothing_has_a_word_in_toml() -> None:
    train = Train(epochs=1, clip=None, monitor="none")
    phase = Phase((Rate("head", 0.5), Rate("stem", None)), train)
    text = write_toml({"name": "x", "backbone": None, "phases": [phase_to_dict(phase)]})
    assert '"frozen"' in text
    assert 'clip = "none"' in text
    assert 'patience = "none"' in text
    assert "backbone" not in text


def test_only_fields_that_may_be_nothing_take_none() -> None:
    train = {"epochs": "none", "monitor": "none", "clip": "none"}
    (phase,) = read_strategy({"name": "x", "phases": [{**TRAIN, "train": train}]})["phases"]
    assert (phase.fit.epochs, phase.fit.monitor, phase.fit.clip) == ("none", "none", None)


def test_toml_is_read_as_it_is(tmp_path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("a = [1, 2.5]\n", encoding="utf-8")
    assert read_toml(path) == {"a": [1, 2.5]}


def test_a_file_that_is_not_there_or_no_toml_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"gone\.toml can't be read: No such file"):
        read_toml(tmp_path / "gone.toml")
    with pytest.raises(UsageError, match="can't be read: Is a directory") as raised:
        read_toml(tmp_path)
    assert "without .toml" in raised.value.hint
    (tmp_path / "x.toml").write_text("a = ", encoding="utf-8")
    with pytest.raises(UsageError, match=r"x\.toml is not TOML: ") as raised:
        read_toml(tmp_path / "x.toml")
    assert raised.value.field == "strategy"
    assert "to_toml()" in raised.value.hint


def test_keep_is_written_only_where_it_is_not_always(tmp_path) -> None:
    plain = Phase((Rate("head", 0.5), Rate("stem", None)), Train(epochs=3))
    better = replace(plain, keep="better")
    assert "keep" not in phase_to_dict(plain)
    assert phase_to_dict(better) == {**phase_to_dict(plain), "keep": "better"}
    document = {"name": "x", "phases": [phase_to_dict(plain), phase_to_dict(better)]}
    assert read_strategy(document)["phases"] == (plain, better)
    path = tmp_path / "x.toml"
    path.write_text(write_toml(document))
    assert path.read_text().count('keep = "better"') == 1
    assert read_strategy(read_toml(path))["phases"] == (plain, better)
    assert problems({"name": "x", "phases": [{**TRAIN, "keep": 1}]}) == [
        "phase 1: keep must be a text, not 1"
    ]
