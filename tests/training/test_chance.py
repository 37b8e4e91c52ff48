"""What is drawn depends on its place only."""

from __future__ import annotations

import pytest
import torch

from headstart.training.chance import chance, drawing


def test_a_seed_is_a_function_of_its_parts_and_of_where_one_ends():
    assert chance(1, 2, "order") == chance(1, 2, "order")
    seeds = {chance(1, 23), chance(12, 3), chance(1, 2, 3), chance("1", "2", 4), chance()}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_inside_the_generator_starts_from_the_seed_and_afterwards_is_as_before():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with drawing("cpu", 7):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    with drawing("cpu", 7):
        assert torch.equal(torch.rand(3), first)
    with drawing("cpu", 8):
        assert not torch.equal(torch.rand(3), first)


def test_after_an_error_the_generator_is_as_before_too():
    def work():
        with drawing("cpu", 7):
            torch.rand(3)
            raise ValueError("inside")

    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="inside"):
        work()
    assert torch.equal(torch.get_rng_state(), before)
