"""The machine of a run: what tells two apart, and what is said of another one."""

from __future__ import annotations

import pytest
import torch

from headstart.errors import ModelError
from headstart.machine import machine, require_same_machine
from headstart.training.checkpoint import State
from headstart.training.device import InferencePath

PATH = InferencePath("cpu", "fp32", "channels_last", 8)


def state(**changes) -> State:
    """Make the checkpoint of a run on this machine, some of it changed."""
    known = {
        "path": PATH.to_dict(),
        "machine": machine(PATH),
        "threads": torch.get_num_threads(),
    }
    return State(known | changes, {})


def test_a_machine_is_named_by_what_changes_numbers():
    found = machine(InferencePath("cpu", "fp32", "channels_last", 8))
    assert {"processor", "layout", "torch", "torchvision", "numpy", "pillow"} <= set(found)
    other = machine(InferencePath("cpu", "fp32", "contiguous", 8))
    assert found["layout"] != other["layout"]


def test_the_same_machine_goes_on_with_the_threads_of_the_beginning():
    before = torch.get_num_threads()
    try:
        require_same_machine(state(threads=before + 1))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_another_machine_is_refused_with_all_that_differs():
    other = machine(PATH) | {"processor": "another", "numpy": "0.1"}
    with pytest.raises(ModelError, match=r"it has processor another, .*; numpy 0\.1, ") as told:
        require_same_machine(state(machine=other))
    assert told.value.field == "checkpoints"
    assert "--out" in told.value.hint


@pytest.mark.parametrize(
    "changes", [{"machine": None}, {"path": {}}, {"path": PATH.to_dict() | {"device": "cuda:99"}}]
)
def test_a_checkpoint_that_does_not_tell_or_needs_what_is_not_here_is_refused(changes):
    known = state(**changes)
    if known.position["machine"] is None:
        del known.position["machine"]
    with pytest.raises(ModelError, match="can't be gone on with here") as told:
        require_same_machine(known)
    assert "--out" in told.value.hint
