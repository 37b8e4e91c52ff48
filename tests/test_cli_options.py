"""Options that several commands share."""

from __future__ import annotations

from collections import Counter
from typing import get_args, get_type_hints

import pytest

from headstart import cli_cache, cli_compare, cli_fit, cli_options, cli_predict

COMMANDS = (
    *(cli_fit.fit, cli_fit.resume, cli_predict.predict, cli_predict.evaluate, cli_predict.embed),
    *(cli_compare.compare, cli_compare.study, cli_cache.cache_list, cli_cache.cache_clear),
)
SHARED = {name: getattr(cli_options, name) for name in cli_options.__all__}


def asked(command) -> dict[str, object]:
    """Return what a command asks for, by parameter, as it is declared."""
    hints = get_type_hints(command, include_extras=True)
    return {name: hint for name, hint in hints.items() if name != "return"}


@pytest.mark.parametrize("name", SHARED)
def test_what_is_shared_belongs_to_several_commands(name):
    users = [command for command in COMMANDS if SHARED[name] in asked(command).values()]
    assert len(users) > 1, f"{name} belongs to {[user.__name__ for user in users]}"


def test_no_command_declares_for_itself_what_is_shared():
    known = {get_args(hint)[1].help for hint in SHARED.values()}
    for command in COMMANDS:
        for name, hint in asked(command).items():
            if get_args(hint)[1].help in known:
                assert hint in SHARED.values(), f"{command.__name__}: {name}"


def test_every_command_answers_in_json_and_shows_its_errors():
    for command in COMMANDS:
        asks = Counter(map(str, asked(command).values()))
        assert asks[str(cli_options.Json)] == asks[str(cli_options.Debug)] == 1
