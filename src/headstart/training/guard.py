"""What is wrong with a network and its optimizer before the first step.

Pure looks at torch objects: nothing is run, moved or changed. ``headstart.lint`` uses them on any
network, and a fit on its own before each phase that trains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import nn

from headstart.data.checks.findings import Finding
from headstart.training.anatomy import drops, is_batch_norm, named

__all__ = ["mode_findings", "optimizer_findings"]


# The optimizer


def optimizer_findings(
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    *,
    head: Collection[int] = (),
    others: Collection[int] = (),
) -> Iterator[Finding]:
    """Yield what is wrong with what an optimizer holds.

    Args:
        parameters: All of the network's, by name, frozen ones too.
        optimizer: What is to train it.
        head: Ids of the head's parameters: ``head_of``.
        others: Ids of parameters that are rightly held beside the network's, such as a loss's.
    """
    names = {id(value): name for name, value in parameters.items()}
    trainable = [name for name, value in parameters.items() if value.requires_grad]
    held = [value for group in optimizer.param_groups for value in group["params"]]
    times = Counter(map(id, held))
    missing = [name for name in trainable if id(parameters[name]) not in times]
    strangers = [value for value in held if id(value) not in names and id(value) not in others]
    if not trainable:
        yield Finding(
            "nothing-trains",
            "error",
            (),
            f"None of the network's {len(parameters)} parameter tensors is trainable: nothing "
            "would be learnt.",
            "Wake what is to be trained, the head at least: "
            "for p in model.fc.parameters(): p.requires_grad_(True), fc being its name.",
        )
    if strangers and missing:
        yield _stale(len(strangers), missing, len(trainable))
    elif missing:
        yield _missing(missing, len(trainable), {names[i] for i in head if i in names})
    elif strangers:
        yield Finding(
            "foreign-parameters",
            "warning",
            (),
            f"The optimizer holds {_tensors(len(strangers))} that the network does not have.",
            "If they are a loss's own, pass it as loss=; if not, make the optimizer from "
            "model.parameters() after the last change to the network.",
        )
    yield from _frozen([value for value in held if id(value) in names], names, optimizer)
    twice = [names[one] for one, count in times.items() if count > 1 and one in names]
    if twice:
        yield Finding(
            "held-twice",
            "warning",
            (),
            f"The optimizer holds {_tensors(len(twice))} more than once: {named(twice)}. Each step "
            "would move them as often, at that many times the rate.",
            "Give every parameter once: in one group, and once in it.",
        )


def _stale(strangers: int, missing: Sequence[str], trainable: int) -> Finding:
    return Finding(
        "stale-optimizer",
        "error",
        (),
        f"The optimizer was made for other parameters: {_tensors(strangers)} it holds "
        f"{'is' if strangers == 1 else 'are'} not in the network, and of the network's {trainable} "
        f"trainable ones it lacks {len(missing)} ({named(missing)}), which would never be trained.",
        "A layer was replaced, or the network copied, after the optimizer was made. Make the "
        "optimizer after the last change to the network.",
    )


def _missing(missing: Sequence[str], trainable: int, head: Collection[str]) -> Finding:
    without_head = [name for name in missing if name in head]
    if len(missing) == trainable or without_head:
        lost = (
            "None of the network's trainable parameters is in the optimizer: no step would change "
            "it."
            if len(missing) == trainable
            else f"The head's {named(without_head)} is not in the optimizer: it would stay as it "
            "was made."
        )
        return Finding(
            *("not-in-optimizer", "error", (), lost),
            "Make the optimizer from all that is trainable: "
            "(p for p in model.parameters() if p.requires_grad).",
        )
    return Finding(
        "not-in-optimizer",
        "warning",
        (),
        f"{len(missing)} of {trainable} trainable parameter tensors are not in the optimizer "
        f"({named(missing)}): they would stand still, and yet cost a gradient each step, which "
        "zero_grad() of the optimizer never clears.",
        "If they are meant to stand still, freeze them: p.requires_grad_(False); if not, give them "
        "to the optimizer.",
    )


def _frozen(
    held: Sequence[nn.Parameter], names: dict[int, str], optimizer: torch.optim.Optimizer
) -> Iterator[Finding]:
    frozen = [value for value in held if not value.requires_grad]
    if not frozen:
        return
    # Without a gradient torch's optimizers pass a parameter by, weight decay and momentum included.
    moving = [names[id(value)] for value in frozen if value.grad is not None]
    told = [names[id(value)] for value in frozen]
    hint = "Give it only what is trainable: (p for p in model.parameters() if p.requires_grad)."
    if moving:
        decays = any(group.get("weight_decay") for group in optimizer.param_groups)
        yield Finding(
            "frozen-in-optimizer",
            "warning",
            (),
            f"The optimizer holds {_tensors(len(told))} that are frozen, and {len(moving)} of them "
            f"({named(moving)}) still have a gradient from before they were: the next step would "
            f"move them{', weight decay included' if decays else ''}.",
            f"{hint} Or call optimizer.zero_grad(set_to_none=True) after freezing.",
        )
        return
    yield Finding(
        "frozen-in-optimizer",
        "warning",
        (),
        f"The optimizer holds {_tensors(len(told))} that {'is' if len(told) == 1 else 'are'} "
        f"frozen: {named(told)}. torch passes them by only as long as they have no gradient at "
        "all; a zero_grad(set_to_none=False) after an earlier step, or a gradient left from before "
        "the freezing, and momentum and weight decay move them.",
        f"{hint} To thaw some later, add them then: optimizer.add_param_group.",
    )


def _tensors(count: int) -> str:
    return f"{count} parameter tensor{'' if count == 1 else 's'}"


# Modes


def mode_findings(model: nn.Module) -> Iterator[Finding]:
    """Yield what is wrong with the modes of a network's layers, as they are for the next step.

    Batch norms of trained parts that are in inference mode while the network is in training mode
    are meant so: they hold the statistics of the pre-training.
    """
    idle = [] if model.training else list(_idle(model))
    if idle:
        yield Finding(
            "eval-mode",
            "warning",
            (),
            "The network is in inference mode: in what is to be trained, batch norms use stored "
            f"statistics and dropout does nothing ({named(idle)}).",
            "Call model.train() before the first step, and again after each validation, which "
            "calls model.eval().",
        )
    drifting = list(_drifting(model))
    if drifting:
        yield Finding(
            "batch-norm-drift",
            "warning",
            (),
            f"{len(drifting)} batch norm{'' if len(drifting) == 1 else 's'} of frozen parts "
            f"({named(drifting)}) {'is' if len(drifting) == 1 else 'are'} in training mode: each "
            "batch is normalised by its own statistics, and the stored ones drift away from those "
            "the frozen weights were trained with.",
            "After every model.train(), put them back: [m.eval() for m in model.modules() if "
            "isinstance(m, nn.BatchNorm2d) and not m.weight.requires_grad].",
        )


def _idle(model: nn.Module) -> Iterator[str]:
    """Yield the layers of the trained part that inference mode changes."""
    trained = False
    for name, module in model.named_modules():
        own = any(value.requires_grad for value in module.parameters(recurse=False))
        trained |= own
        if not module.training and ((own and is_batch_norm(module)) or (trained and drops(module))):
            yield name


def _drifting(model: nn.Module, name: str = "", frozen: bool = False) -> Iterator[str]:
    """Yield the batch norms in training mode of which neither they nor their part is trained.

    Args:
        model: Where to look.
        name: Of it.
        frozen: Whether the nearest part around it that has parameters is frozen.
    """
    values = list(model.parameters())
    if values:
        frozen = not any(value.requires_grad for value in values)
    if frozen and model.training and is_batch_norm(model):
        yield name
    for child, module in model.named_children():
        yield from _drifting(module, f"{name}.{child}".lstrip("."), frozen)
