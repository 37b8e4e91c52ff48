"""What every backbone keeps, over the bundled network and small ones of many families."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save
from torch import nn

from headstart.backbones import zoo
from headstart.backbones.base import Backbone, Block
from headstart.data.transforms import normalise, resize
from networks import images, shake, untrained

PHOTO = Path(__file__).parents[2] / "../shared/datasets/sanity_photos/bird.jpg"

NETWORKS = {
    "test_resnet": 64,
    "test_efficientnet": 64,
    "test_convnext": 64,
    "test_mambaout": 64,
    "test_byobnet": 64,
    "test_nfnet": 64,
    "test_maxvit": None,
    "test_vit": None,  # cut for one size only
    "test_vit3": None,  # attention pools
    "mobilenetv3_small_050": 64,  # a layer after pooling
    "regnetx_002": 64,
    "mobilevit_xxs": 64,
    "levit_128s": None,  # two classifiers; remembers tables
    "vit_small_patch16_dinov3": 64,  # tables of positions
}
MORE = {
    "resnet18": 64,
    "mobilenetv2_035": 64,
    "vit_tiny_patch16_224": 64,
    "eva02_tiny_patch14_224": 56,
    "deit_tiny_distilled_patch16_224": 64,
    "convnext_atto": 64,
    "densenet121": 64,
    "efficientvit_b0": 64,
    "repvgg_a0": 64,
    "ghostnet_050": 64,
    "xcit_nano_12_p16_224": 64,
    "poolformer_s12": 64,
    "inception_v3": 96,
    "dla46_c": 64,  # its classifier is a convolution
    "hrnet_w18_small": 64,  # several maps at once
    "crossvit_9_240": None,  # can't be cut
}
SINGLE = {"crossvit_9_240"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(
    scope="module",
    params=["bundled", *NETWORKS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)],
)
def backbone(request) -> Backbone:
    if request.param == "bundled":
        return zoo.create(zoo.DEFAULT, size=64)
    return untrained(request.param, (NETWORKS | MORE)[request.param])


def tensors(module: nn.Module) -> set[int]:
    """The saved ones; tables that are made anew may be in several blocks."""
    return {id(tensor) for tensor in module.state_dict(keep_vars=True).values()}


def test_every_saved_tensor_is_in_exactly_one_block(backbone):
    held = [tensor for block in backbone.blocks for tensor in tensors(block.module)]
    assert len(held) == len(set(held))
    assert set(held) == tensors(backbone.network)


def test_each_block_names_its_parameters_as_the_network_does(backbone):
    own = dict(backbone.network.named_parameters())
    named = [name for block in backbone.blocks for name in block.parameters]
    assert sorted(named) == sorted(own)
    for block in backbone.blocks:
        assert {id(own[n]) for n in block.parameters} == {id(p) for p in block.module.parameters()}


@pytest.mark.parametrize("count", [1, 4])
def test_the_chain_is_the_network_without_its_classifier(backbone, count):
    x = images(backbone, count)
    with torch.no_grad():
        features = backbone.network(x.clone())
        assert torch.equal(backbone.chain()(x), features)
    assert features.shape == (count, backbone.feature_dim)
    assert features.isfinite().all()


def test_it_is_timms_network_without_its_classifier(backbone):
    import timm

    arguments = backbone.architecture["arguments"]
    original = timm.create_model(backbone.architecture["architecture"], **arguments).eval()
    original.load_state_dict(backbone.network.state_dict(), strict=False)
    classifiers = original.pretrained_cfg["classifier"]
    for name in [classifiers] if isinstance(classifiers, str) else classifiers:
        original.set_submodule(name, nn.Identity())
    x = images(backbone)
    with torch.no_grad():
        assert torch.equal(original(x.clone()), backbone.chain()(x))


def test_a_prefix_and_then_the_rest_is_the_chain_at_every_cut(backbone):
    x = images(backbone, 2)
    modules = [block.module for block in backbone.blocks]
    with torch.no_grad():
        outputs = [x.clone()]
        for module in modules:
            outputs.append(module(outputs[-1].clone()))
        cuts = {1, len(modules) // 2, len(modules) - 1}  # the others run the same modules
        for cut in cuts:
            prefix, suffix = nn.Sequential(*modules[:cut]), nn.Sequential(*modules[cut:])
            assert torch.equal(prefix(x.clone()), outputs[cut])
            assert torch.equal(suffix(outputs[cut].clone()), outputs[-1])
    assert all(len(output) == 2 for output in outputs)


def test_blocks_have_names_stages_and_strides(backbone):
    names = [block.name for block in backbone.blocks]
    assert len(set(names)) == len(names)
    if backbone.name in SINGLE:
        assert names == ["network"]
        assert backbone.notes
        return
    assert names[-1] == "pool"
    assert backbone.blocks[-1].stride == 0
    strides = [block.stride for block in backbone.blocks[:-1]]
    assert strides == sorted(strides)
    assert strides[0] >= 1
    seen = list(dict.fromkeys(block.stage for block in backbone.blocks if block.parameters))
    assert tuple(seen) == backbone.stages
    assert len(backbone.stages) >= 2
    for stage in backbone.stages:  # what belongs to a stage is in a row
        places = [i for i, b in enumerate(backbone.blocks) if b.stage == stage and b.parameters]
        assert places == list(range(places[0], places[-1] + 1))


def freeze(blocks: tuple[Block, ...]) -> None:
    for block in blocks:
        block.module.requires_grad_(False).eval()


def test_a_frozen_prefix_stays_and_the_rest_learns(backbone):
    before = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    frozen = backbone.blocks[: len(backbone.blocks) // 2]
    chain = backbone.chain().train()
    freeze(frozen)
    freeze(frozen)  # twice is once
    trainable = [p for p in chain.parameters() if p.requires_grad]
    try:
        chain(images(backbone)).square().mean().backward()
        torch.optim.SGD(trainable, lr=0.1).step()
        after = {name: value.clone() for name, value in backbone.network.state_dict().items()}
        steps = {n: p.grad for n, p in backbone.network.named_parameters() if p.grad is not None}
    finally:
        backbone.network.load_state_dict(before)
        backbone.network.requires_grad_(True).zero_grad()
        chain.eval()
    still = {id(tensor) for block in frozen for tensor in tensors(block.module)}
    for name, value in backbone.network.state_dict(keep_vars=True).items():
        if id(value) in still:
            assert torch.equal(after[name], before[name]), name
    assert not steps.keys() & {name for block in frozen for name in block.parameters}
    # A bias before a normalisation has a gradient of rounding errors only.
    large = [name for name, step in steps.items() if step.abs().max() > 1e-3]
    assert large
    assert not any(torch.equal(after[name], before[name]) for name in large)


def test_saved_and_loaded_it_gives_equal_features(backbone):
    content = save({k: v.contiguous() for k, v in backbone.network.state_dict().items()})
    document = json.loads(json.dumps(backbone.architecture))
    again = zoo.rebuild(document, backbone.input_spec)
    shake(again.network, seed=9)
    again.network.load_state_dict(load(content))
    assert again.digest() == backbone.digest()
    x = images(backbone, 2)
    with torch.no_grad():
        assert torch.equal(again.chain()(x), backbone.chain()(x))


def photo() -> Image.Image:
    if PHOTO.exists():
        return Image.open(PHOTO).convert("RGB")
    noise = np.random.default_rng(0).integers(0, 256, (213, 320, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientnet_lite0",  # mean and std 0.5
        "resnet50.a1_in1k",  # crop 0.95
        "mobilenetv3_small_050",  # bicubic
        "inception_v3",  # 299 px
        "vit_base_patch16_clip_224.openai",  # means of its own
        "vit_base_patch16_siglip_256",  # squash
        "test_resnet",
    ],
)
@pytest.mark.parametrize("changes", [{}, {"input_size": (3, 96, 64)}])
def test_the_input_spec_is_the_zoos_own_preprocessing(name, changes):
    from timm.data import create_transform, resolve_data_config

    from headstart.backbones.from_timm import pretrained_config
    from headstart.backbones.preprocess import from_config

    config = pretrained_config(name) | changes
    theirs = create_transform(**resolve_data_config({}, pretrained_cfg=config))(photo())
    spec = from_config(config)
    ours = normalise(resize(photo(), spec), spec)
    assert np.abs(ours - theirs.numpy()).max() < 1e-5
