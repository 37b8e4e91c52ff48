"""accelerate's Accelerator: made anew for each phase, for the path's device and precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from headstart.training.accelerator import make_accelerator
from headstart.training.device import InferencePath

FP32 = InferencePath("cpu", "fp32", "channels_last", 8)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_precision_may_change_in_a_process(precision):
    accelerator = make_accelerator(replace(FP32, precision=precision))
    assert accelerator.device.type == "cpu"
    layer = accelerator.prepare(torch.nn.Linear(2, 2))
    assert accelerator.mixed_precision == ("bf16" if precision == "bf16" else "no")
    with torch.autocast("cpu", enabled=False):
        assert layer(torch.ones(1, 2)).dtype == torch.float32  # accelerate gives back fp32


def test_the_number_of_a_gpu_is_made_the_present_one(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr("accelerate.Accelerator", lambda **options: options)
    assert make_accelerator(replace(FP32, device="cuda:2")) == {
        "cpu": False,
        "mixed_precision": "no",
    }
    assert chosen == [2]
