"""README, the docs and the examples run as they are printed, offline."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from headstart import cli
from pictures import write_photos

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


LONG = ("README.md", "plan.md")  # what these pages decide, they train for real


def each(language: str) -> list:
    """Return the pages with blocks of a language; those that take long are for the whole suite."""
    return [
        pytest.param(page, id=page.name, marks=[pytest.mark.slow] if page.name in LONG else [])
        for page in PAGES
        if blocks(page, language)
    ]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def workplace(tmp_path, monkeypatch, capsys):
    """A folder with photos/ in it, as the pages assume."""
    write_photos(tmp_path / "photos", classes=("cat", "dog"), each=20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    return cli._run()


@pytest.mark.parametrize("page", each("console"))
def test_the_commands_of_a_page_run(page, workplace, monkeypatch):
    lines = [line for block in blocks(page, "console") for line in block.splitlines() if line]
    for line in lines:
        assert line.startswith("headstart "), line
        assert run_command(line, monkeypatch) == 0, line


@pytest.mark.parametrize("page", each("python"))
def test_the_python_of_a_page_runs(page, workplace):
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page, "python")):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_an_example_runs(example, workplace):
    exec(compile(example.read_text(), example.name, "exec"), {"__name__": "__main__"})


def test_every_link_between_pages_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_pages_name_every_option_of_fit(capsys, monkeypatch):
    monkeypatch.setitem(os.environ, "COLUMNS", "200")
    run_command("headstart fit --help", monkeypatch)
    options = set(re.findall(r"(--[a-z-]+)", capsys.readouterr().out)) - {"--help"}
    text = (ROOT / "docs" / "commands.md").read_text()
    assert len(options) > 20
    assert {option for option in options if f"`{option}" not in text} == set()
