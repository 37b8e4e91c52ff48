"""What a network costs here: measured in a process of its own, without any download."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from headstart import measuring
from headstart.backbones import zoo
from headstart.errors import ModelError, ResourceError, UsageError
from headstart.measuring import Measured, answer, measure, measure_here

NAME = "timm:test_resnet"
ONE = Measured(
    name="bundled:efficientnet_lite0",
    weights="pretrained",
    input=(224, 224),
    parameters=3_000_000,
    top1=None,
    precision="bf16",
    bf16_ms=5.0,
    fp32_ms=7.0,
    peak_bytes=10**9,
    gpu_bytes=None,
    disk_bytes=13_000_000,
    device="cpu",
    threads=2,
)


def test_a_network_is_measured_from_pixels_to_features():
    found = measure_here(NAME, size=32)
    backbone = zoo.outline(NAME, size=32)
    assert found.name == backbone.full_name
    assert found.weights == "random"
    assert found.input == (32, 32)
    assert found.parameters == sum(p.numel() for p in backbone.network.parameters())
    assert found.fp32_ms > 0
    assert (found.bf16_ms is None) == (found.precision == "fp32")
    assert found.gpu_bytes is None or found.device == "cuda"
    assert found.threads == torch.get_num_threads()


def test_its_size_on_disk_is_that_of_its_safetensors(tmp_path):
    from safetensors.torch import save_file

    found = measure_here(NAME, size=32)
    save_file(zoo.outline(NAME, size=32).network.state_dict(), tmp_path / "network.safetensors")
    size = (tmp_path / "network.safetensors").stat().st_size
    assert abs(found.disk_bytes - size) <= 8 * 64  # the header's padding and metadata


def test_weights_at_hand_are_loaded(monkeypatch):
    taken = []
    monkeypatch.setattr(measuring, "_milliseconds", lambda *given: taken.append(given[1]) or 1.0)
    found = measure_here(zoo.DEFAULT, size=64)
    assert found.weights == "pretrained"
    assert [path.batch_size for path in taken] == [32] * len(taken)
    assert {path.precision for path in taken} == {"fp32", found.precision}
    assert taken[0].precision == found.precision  # first, so that the peak is its own


@pytest.mark.parametrize(("native", "values"), [("avx512_bf16", (2.0, 1.0)), (None, (None, 1.0))])
def test_bf16_is_measured_where_the_processor_has_it(monkeypatch, native, values):
    monkeypatch.setattr("headstart.training.device.bf16_support", lambda _: native)
    monkeypatch.setattr(
        measuring, "_milliseconds", lambda _, path: {"bf16": 2.0, "fp32": 1.0}[path.precision]
    )
    found = measure_here(NAME, size=32)
    assert (found.bf16_ms, found.fp32_ms) == values
    assert found.precision == ("bf16" if native else "fp32")


def test_a_licence_that_forbids_is_kept_to_by_random_weights(monkeypatch):
    def create(name, *, size, allow_noncommercial):
        if not allow_noncommercial:
            raise UsageError("not allowed")
        return zoo.outline(name, size=size)

    monkeypatch.setattr("headstart.backbones.zoo.create", create)
    assert measure_here(NAME, size=32).weights == "random"
    assert measure_here(NAME, size=32, allow_noncommercial=True).weights == "pretrained"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts a parent's peak into a child's")
def test_the_peak_is_the_processs_own_and_not_its_parents():
    parent = """
import json, subprocess, sys
held = bytearray(b"x") * (600 << 20)
child = "from headstart.measuring import _peak_bytes; print(_peak_bytes())"
done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
from headstart.measuring import _peak_bytes
print(json.dumps([int(done.stdout), _peak_bytes()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, check=True
    )
    child, own = json.loads(done.stdout)
    assert own > 600 << 20
    assert child < 100 << 20


def test_where_no_system_tells_the_peak_is_not_known(monkeypatch, tmp_path):
    monkeypatch.setattr(measuring, "Path", lambda _: tmp_path / "none")
    monkeypatch.setattr(sys, "platform", "win32")
    assert measuring._peak_bytes() is None


def apart(monkeypatch, code: int = 0, out: str = "", err: str = "") -> list[dict]:
    """Let the process that measures end so; return what it was started with."""
    started: list[dict] = []

    def run(command, **options):
        started.append({"command": command, **options})
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(measuring.subprocess, "run", run)
    return started


def test_each_is_measured_apart_and_nothing_is_downloaded(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    started = apart(monkeypatch, out=f"noise\n{json.dumps(ONE.to_dict())}\n")
    told = []
    found = measure(["a", "b"], size=96, progress=lambda *given: told.append(given))
    assert told == [(0, 2, "a"), (1, 2, "b")]
    requests = [json.loads(one["command"][-1]) for one in started]
    assert requests == [
        {"name": name, "size": 96, "allow_noncommercial": False} for name in ("a", "b")
    ]
    assert all(one["env"]["HF_HUB_OFFLINE"] == "1" for one in started)
    assert all("-P" in one["command"] for one in started)  # loads no module of this folder
    # What the zoo tells: with the classifier, and how good it is.
    assert [(one.parameters, one.top1) for one in found] == [(4_652_008, 0.751)] * 2
    assert found[0].input == (224, 224)


def test_a_network_of_no_list_keeps_what_was_counted(monkeypatch):
    apart(monkeypatch, out=json.dumps(ONE.to_dict() | {"name": "mine:network"}))
    (found,) = measure(["mine:network"])
    assert (found.parameters, found.top1) == (3_000_000, None)


def test_a_process_that_the_system_ended_had_too_little_memory(monkeypatch):
    apart(monkeypatch, code=-9)
    with pytest.raises(ResourceError, match="signal 9") as caught:
        measure([NAME])
    assert "--size" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("err", "said"), [("Traceback\nValueError: strange", "ValueError: strange"), ("", "exit code")]
)
def test_a_process_that_fails_tells_its_last_line(monkeypatch, err, said):
    apart(monkeypatch, code=1, err=err)
    with pytest.raises(ModelError, match=said) as caught:
        measure([NAME])
    assert caught.value.hint == f"Look into it: headstart models --blocks {NAME}"


@pytest.mark.parametrize(("code", "kind"), [(2, UsageError), (4, ModelError), (5, ResourceError)])
def test_errors_come_through_as_they_were(monkeypatch, code, kind):
    told = {"id": "x", "message": "It is too small.", "field": "size", "hint": "Take 64."}
    apart(monkeypatch, code=code, out=json.dumps(told))
    with pytest.raises(kind, match=f"{NAME}: It is too small") as caught:
        measure([NAME])
    assert (caught.value.field, caught.value.hint) == ("size", "Take 64.")


def test_the_process_answers_with_one_line(monkeypatch, capsys):
    monkeypatch.setattr(measuring, "measure_here", lambda **_: ONE)
    assert answer(json.dumps({"name": NAME})) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(ONE.to_dict()))


def test_the_process_answers_with_its_error(capsys):
    assert answer(json.dumps({"name": "timm:nosuchnetwork"})) == 2
    assert "nosuchnetwork" in json.loads(capsys.readouterr().out)["message"]
    assert answer(json.dumps({"name": NAME, "size": 100_000})) == 2


def test_too_little_memory_is_an_error_of_ours_and_no_other_is(monkeypatch, capsys):
    def fails(**_):
        raise RuntimeError(text)

    monkeypatch.setattr(measuring, "measure_here", fails)
    text = "DefaultCPUAllocator: can't allocate memory"
    assert answer(json.dumps({"name": NAME})) == 5
    assert "not enough memory" in json.loads(capsys.readouterr().out)["message"]
    text = "something else"
    with pytest.raises(RuntimeError, match="something else"):
        answer(json.dumps({"name": NAME}))
