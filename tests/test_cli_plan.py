"""The command plan: what it prints, what it takes, and that it trains nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import typer

from headstart import cli, proposing
from planned import LAST, decided_for

OF_FIT_ALONE = {"--out", "--no-refit", "--no-audit", "--save-minutes", "--min", "--dry-run"}
OF_PLAN_ALONE = {"--find-rate", "--phase", "--out"}


@pytest.fixture(autouse=True)
def decided(monkeypatch) -> None:
    """Have it decided to train the last stage, without trying anything."""
    monkeypatch.setattr(proposing, "decide", lambda plan, **_: decided_for(plan, LAST))


def options_of(command: str) -> dict[str, typer.core.TyperOption]:
    """Return the options of a command by how they are written."""
    parameters = typer.main.get_command(cli.app).commands[command].params
    return {p.opts[0]: p for p in parameters if p.param_type_name == "option"}


def test_the_decisions_the_times_and_the_phases_are_data(command, photos, tiny_network):
    result = command("plan", photos, *tiny_network)
    assert result.code == 0
    assert result.out.startswith("data      photos: 72 images")
    assert "\ndecided   in " in result.out
    for part in ("  resize: crop", "What would change it:", "in all about", "bit  everything"):
        assert part in result.out
    phases = [line for line in result.out.splitlines() if line.startswith("  phase ")]
    assert any("solve the head" in line for line in phases)
    assert any("behind" in line and "1 epochs of 50 images" in line for line in phases)
    assert "photos: 72 images" in result.err
    assert "strategy  auto: facts are measured" in result.err


def test_json_is_one_document(command, photos, tiny_network):
    document = command("plan", photos, *tiny_network, "--budget", "90s", "--json").document
    assert document["plan"]["strategy"]["name"] == "auto"
    assert document["auto"]["decisions"][0]["question"] == "resize"
    assert len(document["auto"]["seconds"]) == len(document["phases"]) == 2


def test_a_named_strategy_is_planned_as_it_is(command, photos, tiny):
    result = command("plan", photos, *tiny)
    assert result.code == 0
    assert "decided" not in result.out
    assert "phase 1 solve the head" in result.out
    assert "auto" not in command("plan", photos, *tiny, "--json").document


def test_nothing_is_written(command, photos, tiny_network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("plan", photos, *tiny_network).code == 0
    assert list(tmp_path.iterdir()) == []


def test_it_takes_the_options_of_fit_but_for_what_only_a_fit_does():
    fit, plan = options_of("fit"), options_of("plan")
    assert set(fit) >= OF_FIT_ALONE
    assert set(plan) == set(fit) - OF_FIT_ALONE | OF_PLAN_ALONE
    for name in set(fit) & set(plan) - {"--out"}:
        assert (plan[name].help, plan[name].default) == (fit[name].help, fit[name].default)


@pytest.mark.parametrize("option", [("--phase", "2"), ("--out", "rates")])
def test_what_is_about_rates_needs_to_be_asked_for(command, photos, tiny, option):
    result = command("plan", photos, *tiny, *option)
    assert f"{option[0]} is about --find-rate" in result.refusal(2)


@pytest.mark.parametrize(("text", "said"), [("soon", "--budget must be a time"), ("0s", "above 0")])
def test_a_budget_that_is_none_is_refused(command, photos, text, said):
    assert said in command("plan", photos, "--budget", text).refusal(2)


@pytest.fixture
def tested(monkeypatch) -> list:
    """What is asked of the range test, which does nothing."""
    calls: list = []

    def find(data, options, *, phase, out, listener):
        calls.append((data, options, phase, out))
        return SimpleNamespace(to_dict=lambda: {"phase": phase}, lines=lambda: ["rate 0.001"])

    monkeypatch.setattr("headstart.rate_finding.find_rate", find)
    return calls


def test_rates_are_tested_of_the_phase_that_is_named(command, photos, tiny, tmp_path, tested):
    out = tmp_path / "rates"
    asked = ("plan", photos, *tiny, "--epochs", "2", "--find-rate", "--phase", "1", "--out", out)
    assert command(*asked).out == "rate 0.001\n"
    assert command(*asked, "--json").document == {"phase": 1}
    data, options, phase, folder = tested[0]
    assert (data, phase, folder) == (str(photos), 1, out)
    assert (options.strategy, options.epochs) == ("feature-extraction", 2)


def test_the_rates_of_auto_are_those_of_what_it_decides(command, photos, tiny_network, tested):
    assert command("plan", photos, *tiny_network, "--find-rate").code == 0
    ((_, options, phase, folder),) = tested
    assert (phase, folder) == (None, None)
    assert [phase.fit for phase in options.strategy.phases][1] == LAST.fit
