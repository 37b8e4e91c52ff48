"""What a network costs on this machine: forward time, peak memory, size on disk.

Each network is measured in a process of its own, so that one's memory is not another's. Weights
that are at hand are loaded; where they are not, random ones take the same time. Nothing is
downloaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from headstart.errors import HeadstartError, ModelError, ResourceError, UsageError

if TYPE_CHECKING:
    from headstart.backbones.base import Backbone
    from headstart.training.device import InferencePath

__all__ = ["BATCH", "Measured", "answer", "measure", "measure_here"]

BATCH = 32
"""Images a forward pass."""

Progress = Callable[[int, int, str], None]
_REPEATS = 7
_PROGRAM = "import sys; from headstart.measuring import answer; sys.exit(answer(sys.argv[1]))"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one network costs.

    Attributes:
        name: ``zoo:name``, with the tag of its weights.
        weights: What it was measured with: ``pretrained`` or ``random``.
        input: Height and width in pixels.
        parameters: How many numbers it learns, its classifier included where the zoo tells.
        top1: Accuracy on ImageNet-1k as the zoo publishes it, 0 to 1, or None.
        precision: What ``fit`` tries first on this machine.
        bf16_ms: Milliseconds an image in bf16; None where this processor has it not natively.
        fp32_ms: Milliseconds an image in fp32.
        peak_bytes: Most memory that the process held in ``precision``, Python and torch included;
            None where the system does not tell.
        gpu_bytes: Most memory taken of the GPU in ``precision``; None without one.
        disk_bytes: The weights as a run keeps them: safetensors, without the classifier.
        device: As torch names it.
        threads: Of the CPU.
    """

    name: str
    weights: Literal["pretrained", "random"]
    input: tuple[int, int]
    parameters: int
    top1: float | None
    precision: Literal["fp32", "bf16"]
    bf16_ms: float | None
    fp32_ms: float
    peak_bytes: int | None
    gpu_bytes: int | None
    disk_bytes: int
    device: str
    threads: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def measure(
    names: Sequence[str],
    *,
    size: int | None = None,
    allow_noncommercial: bool = False,
    progress: Progress | None = None,
) -> list[Measured]:
    """Measure networks, one after the other, each in a process of its own.

    Args:
        names: ``zoo:name`` each.
        size: Side of the input in pixels; by default each network's own.
        allow_noncommercial: Load weights whose licence forbids commercial use; else such a network
            is measured with random ones.
        progress: Called before each with how many are done, how many there are, and its name.

    Raises:
        UsageError: A network can't take that size, or its zoo is not installed.
        ModelError: A network can't be measured.
        ResourceError: There is not enough memory for one.
    """
    from headstart.backbones import zoo

    known = {each.name: each for each in zoo.listings()}
    found = []
    for number, name in enumerate(names):
        if progress is not None:
            progress(number, len(names), name)
        one = _apart({"name": name, "size": size, "allow_noncommercial": allow_noncommercial})
        listing = known.get(one.name)
        if listing is not None:
            parameters = listing.parameters or one.parameters
            one = replace(one, parameters=parameters, top1=listing.top1)
        found.append(one)
    return found


def _apart(request: dict[str, Any]) -> Measured:
    """Measure one network in a process of its own, which may download nothing."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, json.dumps(request)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    name = request["name"]
    if done.returncode < 0:
        raise ResourceError(
            f"The system ended the process that measured {name} (signal {-done.returncode}): "
            "probably there is not enough memory.",
            field="measure",
            hint="Measure a smaller network, or take smaller images (--size).",
        )
    try:
        said = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ModelError(
            f"{name} can't be measured: {last}",
            field="measure",
            hint=f"Look into it: headstart models --blocks {name}",
        ) from None
    if done.returncode:
        kind = {2: UsageError, 5: ResourceError}.get(done.returncode, ModelError)
        raise kind(f"{name}: {said['message']}", field=said["field"], hint=said["hint"])
    return Measured(**said | {"input": tuple(said["input"])})


def answer(request: str) -> int:
    """Measure in this process, and print one line of JSON: what ``measure`` runs.

    Args:
        request: The arguments of ``measure_here`` as JSON.

    Returns:
        The exit code; other than 0, the line tells of the error.
    """
    from headstart.training.device import out_of_memory

    try:
        print(json.dumps(measure_here(**json.loads(request)).to_dict()))
    except HeadstartError as error:
        print(json.dumps(error.to_dict()))
        return error.exit_code
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        lack = ResourceError(
            "There is not enough memory to run it.",
            field="measure",
            hint="Measure a smaller network, or take smaller images (--size).",
        )
        print(json.dumps(lack.to_dict()))
        return lack.exit_code
    return 0


def measure_here(
    name: str, *, size: int | None = None, allow_noncommercial: bool = False
) -> Measured:
    """Measure one network in this process, whose peak of memory then counts.

    Args:
        name: ``zoo:name``.
        size: Side of the input in pixels; by default the network's own.
        allow_noncommercial: Load weights whose licence forbids commercial use.

    Returns:
        What was measured; ``parameters`` without the classifier and ``top1`` left to ``measure``.

    Raises:
        HeadstartError: The network can't be made.
    """
    import torch

    from headstart.training.device import bf16_support, first_path, pick_device
    from headstart.training.tensorfile import TensorFile

    path = first_path(pick_device(), "auto", BATCH)
    backbone, weights = _network(name, size, allow_noncommercial)
    taken = {path.precision: _milliseconds(backbone, path)}
    peak = _peak_bytes()  # before the other precision, which ``fit`` would not take
    on_gpu = path.device.startswith("cuda")
    gpu = torch.cuda.max_memory_allocated() if on_gpu else None
    if bf16_support(path.device):
        taken["fp32"] = _milliseconds(backbone, path.in_fp32())
    spec = backbone.input_spec
    return Measured(
        name=backbone.full_name,
        weights=weights,
        input=(spec.height, spec.width),
        parameters=sum(parameter.numel() for parameter in backbone.network.parameters()),
        top1=None,
        precision=path.precision,
        bf16_ms=taken.get("bf16"),
        fp32_ms=taken["fp32"],
        peak_bytes=peak,
        gpu_bytes=gpu,
        disk_bytes=TensorFile(backbone.network.state_dict()).nbytes,
        device=path.device,
        threads=torch.get_num_threads(),
    )


def _network(
    name: str, size: int | None, allow_noncommercial: bool
) -> tuple[Backbone, Literal["pretrained", "random"]]:
    """Make a network with its weights, or with random ones where these are not to be had."""
    from headstart.backbones import zoo
    from headstart.errors import MissingExtra, MissingWeights

    try:
        return zoo.create(name, size=size, allow_noncommercial=allow_noncommercial), "pretrained"
    except (MissingExtra, MissingWeights, UsageError):
        # Not here, or not allowed; what is wrong with the name or the size is told once more.
        return zoo.outline(name, size=size), "random"


def _milliseconds(backbone: Backbone, path: InferencePath) -> float:
    """Return the median milliseconds of an image in a batch, from pixels to features."""
    import numpy as np

    from headstart.training.device import Forward

    spec = backbone.input_spec
    shape = (path.batch_size, spec.height, spec.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    forward = Forward(backbone, path)
    forward(pixels)
    taken = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        forward(pixels)
        taken.append(time.perf_counter() - start)
    return round(1000 * median(taken) / path.batch_size, 4)


def _peak_bytes() -> int | None:
    """Return the most memory that this process ever held, or None where nobody tells.

    Linux begins a process's ``ru_maxrss`` with its parent's; VmHWM is its own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text("utf-8").splitlines()
        return next((1024 * int(x.split()[1]) for x in lines if x.startswith("VmHWM")), None)
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
