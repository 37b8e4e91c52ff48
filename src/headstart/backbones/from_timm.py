"""Backbones from timm: every network it lists, with its weights or a user's.

timm is imported inside the functions, because that takes a second or two.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headstart.backbones import hub
from headstart.backbones.architecture import check_keys, check_numbers, from_earlier
from headstart.backbones.base import Backbone, Request
from headstart.backbones.blocks import cut
from headstart.backbones.licence import check_licence
from headstart.backbones.preprocess import decide, from_config, size_is_the_users
from headstart.backbones.timm_files import conversion
from headstart.backbones.weights import load_weights
from headstart.backbones.weights_file import read_weights
from headstart.errors import ModelError, UnknownName
from headstart.inputspec import InputSpec

__all__ = [
    "assemble",
    "create",
    "create_from_file",
    "describe",
    "new_network",
    "pretrained_config",
    "rebuild",
    "untrained",
]


def create(name: str, request: Request) -> Backbone:
    """Create the timm network ``name``, such as ``resnet50`` or ``resnet50.a1_in1k``.

    Raises:
        UnknownName: timm has no such network, or no such weights of it.
        UsageError: The licence forbids commercial use, or the request can't be met.
        MissingWeights: The weights are not on this machine and could not be downloaded.
        ModelError: The weights or the network can't be used.
    """
    config = pretrained_config(name)
    if request.weights is not None:
        return create_from_file("timm", name, config, request.weights, request)
    name = f"{config['architecture']}.{config['tag']}" if config.get("tag") else name
    if request.random is None:
        check_licence(
            f"timm:{name}", config.get("license"), allow_noncommercial=request.allow_noncommercial
        )
    spec, notes = decide(from_config(config), config["architecture"], request)
    architecture = describe("timm", name, config, spec)
    if request.random is not None:
        return untrained(architecture, spec, request, notes)
    with size_is_the_users(request):
        network, weights = _pretrained(name, config, architecture)
    return assemble(
        architecture,
        network,
        spec,
        request,
        licence=config.get("license"),
        weights=weights,
        notes=notes,
    )


def create_from_file(
    zoo: str, name: str, config: Mapping[str, Any], file: Path, request: Request
) -> Backbone:
    """Create a network of timm's and load the user's file of weights into it."""
    spec, notes = decide(from_config(config), config["architecture"], request)
    architecture = from_earlier(describe(zoo, name, config, spec), request)
    with size_is_the_users(request):
        network = new_network(architecture)
    found = load_weights(
        network,
        file,
        _classifiers(network),
        allow_partial=request.allow_partial,
        convert=conversion(config["architecture"], network),
    )
    notes = (*notes, *found.notes)
    return assemble(architecture, network, spec, request, weights=found.told, notes=notes)


def untrained(
    architecture: Mapping[str, Any], spec: InputSpec, request: Request, notes: tuple[str, ...]
) -> Backbone:
    """Make a network with random weights, drawn from ``request.random``."""
    with size_is_the_users(request):
        network = new_network(architecture, seed=request.random or 0)
    weights = f"random, seed {request.random}"
    return assemble(architecture, network, spec, request, weights=weights, notes=notes)


def rebuild(architecture: Mapping[str, Any], input_spec: InputSpec) -> Backbone:
    """Build the network that ``architecture`` describes again, with random weights.

    Raises:
        ModelError: It is not one that ``describe`` gave, or can't be made.
    """
    check_keys(architecture)
    return assemble(architecture, new_network(architecture), input_spec, Request())


def pretrained_config(name: str) -> dict[str, Any]:
    """Return timm's configuration of a network and its weights (the default ones without a tag).

    Raises:
        UnknownName: timm has no such network, or no such weights of it.
    """
    import timm
    from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg

    architecture, _, tag = name.partition(".")
    # Names that timm has replaced by others can still be made, but have no configuration.
    if not timm.is_model(architecture) or get_pretrained_cfg(architecture) is None:
        raise UnknownName("timm network", architecture, timm.list_models(), field="backbone")
    known = get_arch_pretrained_cfgs(architecture)
    if tag and name not in known:
        tags = (full.partition(".")[2] for full in known)
        raise UnknownName(
            f"set of weights for timm:{architecture}", tag, filter(None, tags), field="backbone"
        )
    config: dict[str, Any] = get_pretrained_cfg(name).to_dict()
    return config | {"architecture": architecture}


def describe(zoo: str, name: str, config: Mapping[str, Any], spec: InputSpec) -> dict[str, Any]:
    """Return the plain JSON from which ``new_network`` makes the network, whatever timm's default.

    Networks with a fixed input size are told the size.
    """
    fixed = config.get("fixed_input_size", False)
    return {
        "zoo": zoo,
        "name": name,
        "architecture": config["architecture"],
        "num_classes": config["num_classes"],
        "arguments": {"img_size": [spec.height, spec.width]} if fixed else {},
    }


def new_network(architecture: Mapping[str, Any], *, seed: int = 0, **pretrained: Any) -> nn.Module:
    """Make a network of timm's with its classifier; no global random number is drawn.

    Args:
        architecture: As ``describe`` gave it.
        seed: Of the weights, where none are loaded.
        **pretrained: Which weights timm loads.

    Raises:
        ModelError: ``architecture`` is not one that ``describe`` gave, or the network can't be made
            for images of that size (field ``size``).
    """
    import timm

    check_numbers(architecture)
    try:
        name, arguments = architecture["architecture"], architecture["arguments"]
        # The description may come from a file: nothing but a listed name is to be made.
        if not timm.is_model(name) or arguments.keys() - {"img_size"}:
            raise ModelError(f"timm has no network {name!r} with the arguments {arguments}.")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network: nn.Module = timm.create_model(
                name, num_classes=architecture["num_classes"], **arguments, **pretrained
            )
    except (TypeError, AttributeError) as error:
        raise ModelError(f"Not the description of a network: {error}.") from error
    except (ArithmeticError, AssertionError, ValueError, RuntimeError) as error:
        of_weights = bool(pretrained) and isinstance(error, ValueError | RuntimeError)
        if of_weights or "img_size" not in arguments:
            raise
        height, width = arguments["img_size"]
        raise ModelError(
            f"timm's {name} can't take images of {height} x {width} pixels: {error}.", field="size"
        ) from error
    return network


def assemble(
    architecture: Mapping[str, Any],
    network: nn.Module,
    spec: InputSpec,
    request: Request,
    *,
    licence: str | None = None,
    weights: str = "random",
    notes: tuple[str, ...] = (),
) -> Backbone:
    """Take the classifier off a network of timm's and cut the rest into blocks.

    Raises:
        UsageError: The network can't take images of the size that was asked for.
        ModelError: The network can't be a backbone.
    """
    classifier = _take_off_classifier(network.eval())
    with size_is_the_users(request):
        result = cut(network, (spec.height, spec.width), _stage_groups(network))
    return Backbone(
        zoo=architecture["zoo"],
        name=architecture["name"],
        network=network,
        blocks=result.blocks,
        input_spec=spec,
        feature_dim=result.feature_dim,
        licence=licence,
        architecture=dict(architecture),
        classifier=classifier,
        weights=weights,
        notes=notes + result.notes,
    )


def _classifiers(network: nn.Module) -> tuple[str, ...]:
    """Dotted names of the network's classifier layers; several where it was distilled."""
    listed = network.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr,operator]
    return (listed,) if isinstance(listed, str) else tuple(listed)


def _take_off_classifier(network: nn.Module) -> str | None:
    modules = dict(network.named_modules())
    layers = {name: modules[name] for name in _classifiers(network) if name in modules}
    layers = {n: m for n, m in layers.items() if isinstance(m, nn.Linear | nn.Conv2d)}
    for name in layers:
        network.set_submodule(name, nn.Identity())
    linear = [name for name, module in layers.items() if isinstance(module, nn.Linear)]
    return linear[0] if len(layers) == len(linear) == 1 else None


def _stage_groups(network: nn.Module) -> dict[str, int] | None:
    from timm.models import group_parameters

    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        return None
    try:
        groups: dict[str, int] = group_parameters(network, matcher(coarse=True), reverse=True)
    except AssertionError:  # RDNet has no coarse groups
        return None
    return groups


def _pretrained(
    name: str, config: Mapping[str, Any], architecture: Mapping[str, Any]
) -> tuple[nn.Module, str]:
    """Make the network with the zoo's weights, and say where they came from."""
    tag = {"pretrained_cfg": config["tag"]} if config.get("tag") else {}
    path, came = hub.cached_file(config), "from the cache"
    if path is None:
        with hub.downloading(f"timm:{name}", config):
            downloaded = new_network(architecture, pretrained=True, **tag)
        path, came = hub.cached_file(config), "downloaded"
        if path is None:  # another framework's file, which timm alone reads
            return downloaded, f"{name}, {came}"
        del downloaded
    hub.check_hash(path)
    # Read in one way, whether it has just come or lay there: the next run gets the same numbers.
    overlay = {"state_dict": read_weights(path)}
    try:
        network = new_network(architecture, pretrained=True, pretrained_cfg_overlay=overlay, **tag)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} does not fit timm:{name}: {reason}", field=str(path)) from error
    del network.pretrained_cfg["state_dict"]  # type: ignore[union-attr,operator]
    return network, f"{name}, {came}"
