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

from families import FAMILIES
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
    "torchvision:squeezenet1_1": 64,  # its classifier is a convolution
    "torchvision:mobilenet_v3_small": 64,  # a layer after pooling
    "torchvision:shufflenet_v2_x0_5": 64,
    "keras:MobileNetV3Small": 64,
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
    # VGG and ViT have none as small; theirs are in tests/backbones/test_from_torchvision.py.
    "torchvision:alexnet": None,  # fully connected layers after pooling
    "torchvision:convnext_tiny": 64,
    "torchvision:densenet121": 64,
    "torchvision:efficientnet_b0": 64,
    "torchvision:efficientnet_v2_s": 64,
    "torchvision:googlenet": 64,  # converts its input
    "torchvision:inception_v3": 128,
    "torchvision:maxvit_t": None,  # takes multiples of 224 pixels
    "torchvision:mnasnet0_5": 64,
    "torchvision:mobilenet_v2": 64,
    "torchvision:regnet_x_400mf": 64,
    "torchvision:regnet_y_400mf": 64,
    "torchvision:resnet18": 64,
    "torchvision:resnext50_32x4d": 64,
    "torchvision:swin_t": 64,
    "torchvision:swin_v2_t": 64,
    # trunks
    "torchvision:deeplabv3_resnet50": 64,
    "torchvision:lraspp_mobilenet_v3_large": 64,
    "torchvision:fasterrcnn_resnet50_fpn": 64,  # frozen statistics
    "torchvision:retinanet_resnet50_fpn_v2": 64,
    "torchvision:ssd300_vgg16": 64,
    "torchvision:ssdlite320_mobilenet_v3_large": 64,
    "keras:ConvNeXtTiny": 64,
    "keras:DenseNet121": 64,
    "keras:EfficientNetB0": 64,
    "keras:EfficientNetV2B0": 64,
    "keras:InceptionV3": 96,
    "keras:MobileNet": 64,
    "keras:MobileNetV2": 64,
    "keras:NASNetMobile": 64,
    "keras:ResNet50": 64,
    "keras:ResNet50V2": 64,
    "keras:VGG16": 64,
    "keras:Xception": 96,
}
SLOW = MORE | FAMILIES
SINGLE = {"crossvit_9_240"}  # can't be cut
ONE_STAGE = {"coat_tiny", "tnt_s_legacy_patch16_224"}  # and the pool block


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(
    scope="module",
    params=["bundled", *NETWORKS, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)],
)
def backbone(request) -> Backbone:
    if request.param == "bundled":
        return zoo.create(zoo.DEFAULT, size=64)
    return untrained(request.param, (NETWORKS | SLOW)[request.param])


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


def test_it_is_the_zoos_network_without_its_classifier(backbone):
    others = {"torchvision": torchvisions, "keras": KerasItself}
    original = others.get(backbone.zoo, timms)(backbone)
    x = images(backbone)
    with torch.no_grad():
        assert torch.equal(original(x.clone()), backbone.chain()(x))


def timms(backbone: Backbone) -> nn.Module:
    import timm

    arguments = backbone.architecture["arguments"]
    original = timm.create_model(backbone.architecture["architecture"], **arguments).eval()
    original.load_state_dict(backbone.network.state_dict(), strict=False)
    classifiers = original.pretrained_cfg["classifier"]
    for name in [classifiers] if isinstance(classifiers, str) else classifiers:
        original.set_submodule(name, nn.Identity())
    return original


def torchvisions(backbone: Backbone) -> nn.Module:
    from torchvision import models

    name, arguments = backbone.architecture["architecture"], backbone.architecture["arguments"]
    if not backbone.architecture["num_classes"]:
        pytest.skip("tests/backbones/test_from_torchvision.py holds trunks to the whole network")
    if name in ("googlenet", "inception_v3"):
        arguments = {"aux_logits": False, "transform_input": True, "init_weights": False}
    original = models.get_model(name, weights=None, **arguments).eval()
    own = original.state_dict()
    own.update(backbone.network.state_dict())  # and keep the version that MNASNet asks for
    original.load_state_dict(own)
    last = [n for n, m in original.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    assert len(original.get_submodule(last).weight) == 1000
    original.set_submodule(last, nn.Identity())
    return original


class KerasItself:
    """Keras's own model with a backbone's numbers, called by Keras."""

    def __init__(self, backbone: Backbone) -> None:
        from headstart.backbones.from_keras import new_model

        self.model = new_model(backbone.name, backbone.input_spec)
        assert len(self.model.weights) == len(backbone.network.state_dict())
        self.fill(backbone.network.state_dict())

    def fill(self, tensors: dict[str, torch.Tensor]) -> None:
        from headstart.backbones.keras_blocks import to_steps

        for step in to_steps(self.model):
            step.module.load_state_dict(
                {n.rpartition(".")[2]: v for n, v in tensors.items() if owner(n) == step.name}
            )
            step.module.store()
        for layer in self.model.layers:
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import keras

        with keras.device("cpu"):
            return self.model(x.permute(0, 2, 3, 1), training=False)


def owner(name: str) -> str:
    return name.rpartition(".")[0]


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
    assert (len(backbone.stages) >= 2) == (backbone.name not in ONE_STAGE)
    for stage in backbone.stages:  # what belongs to a stage is in a row
        places = [i for i, b in enumerate(backbone.blocks) if b.stage == stage and b.parameters]
        assert places == list(range(places[0], places[-1] + 1))


def freeze(blocks: tuple[Block, ...]) -> None:
    for block in blocks:
        block.module.requires_grad_(False).eval()


def test_a_frozen_prefix_stays_and_the_rest_learns(backbone):
    before = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    frozen = backbone.blocks[: len(backbone.blocks) // 2]
    if backbone.name in ONE_STAGE:
        frozen = ()  # all that learns is in the first block
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
    state = backbone.network.state_dict()  # where one tensor may have several names
    content = save({k: v.clone(memory_format=torch.contiguous_format) for k, v in state.items()})
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


def test_the_input_spec_is_torchvisions_own_preprocessing():
    from torchvision.models import get_model_weights

    from headstart.backbones.torchvision_catalog import entries, is_trunk, names

    seen = set()
    for entry in (e for name in names() if not is_trunk(name) for e in entries(name)):
        spec = entry.input_spec
        if spec in seen:
            continue
        seen.add(spec)
        transforms = get_model_weights(entry.network)[entry.tag].transforms()
        ours = normalise(resize(photo(), spec), spec)
        assert np.abs(ours - transforms(photo()).numpy()).max() < 1e-5, entry.name
    assert len(seen) > 20
