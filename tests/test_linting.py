"""``headstart.lint`` on set-ups as people write them: each mistake planted and found, none else."""

from __future__ import annotations

import random

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import headstart
from headstart.errors import UsageError
from headstart.training.model import Model
from networks import shake, untrained

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
FIRST = [v2.ToImage(), v2.Resize((32, 32)), v2.ToDtype(torch.float32, scale=True)]
HALF = v2.Normalize([0.5] * 3, [0.5] * 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of pictures of black, white and noise."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        (root / name).mkdir()
        for number in range(8):
            pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            pixels[:10], pixels[-10:] = 0, 255
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def loader(folder):
    """Make a loader of the pictures; its transform is right for ``network``."""

    def make(*end, shuffle=True, target_transform=None):
        steps = v2.Compose([*FIRST, *(end or [HALF])])
        data = ImageFolder(folder, steps, target_transform)
        return DataLoader(data, 8, shuffle=shuffle, generator=torch.Generator().manual_seed(0))

    return make


def network(classes: int = 3, name: str = "test_resnet", **options) -> nn.Module:
    """Make a network of timm's that looks pre-trained, but for its head."""
    model = timm.create_model(name, num_classes=classes, **options)
    shake(model)
    return model


def adamw(model: nn.Module, rate: float = 1e-4) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate)


def kinds(result) -> list[tuple[str, str]]:
    return [(finding.kind, finding.severity) for finding in result]


# Clean set-ups


def frozen_but_for_the_head() -> nn.Module:
    model = network().requires_grad_(requires_grad=False)
    model.get_classifier().requires_grad_()
    model.train()
    [m.eval() for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    return model


CLEAN = {
    "timm": network,
    "vit": lambda: network(name="test_vit", img_size=32),
    "wrapped": lambda: nn.Sequential(network(), nn.Flatten()),
    "parallel": lambda: nn.DataParallel(network()),
    "frozen": frozen_but_for_the_head,
    "from nothing": lambda: timm.create_model("test_resnet", num_classes=3),
}


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_set_up_gives_no_finding(loader, name):
    model = CLEAN[name]()
    data = loader()
    result = headstart.lint(model, adamw(model), data.dataset.transform, data)
    assert list(result) == []
    assert any("One batch of 8 images was taken" in note for note in result.notes)


def test_a_clean_set_up_of_torchvisions_gives_no_finding(loader):
    model = torchvision.models.mobilenet_v3_small(num_classes=3)
    shake(model)
    assert list(headstart.lint(model, adamw(model), loader=loader(v2.Normalize(**IMAGENET)))) == []


@pytest.mark.slow  # torch.compile is slow to import
def test_a_compiled_network_is_looked_into(loader):
    model = network()
    compiled = torch.compile(model)
    assert list(headstart.lint(compiled, adamw(model), loader=loader())) == []


def test_ours_is_clean_with_pixels_as_our_data_sets_give_them(photos):
    backbone = untrained("test_resnet", 32)
    model = Model(backbone, nn.Linear(backbone.feature_dim, 3))
    phase = headstart.Phase(
        (headstart.Rate("head", 1e-3), headstart.Rate("stage:0..-1", 1e-4)),
        headstart.Train(epochs=1, batch_norm="train"),
    )
    headstart.apply(model, phase)
    optimizer = torch.optim.AdamW(headstart.parameter_groups(model, phase))
    data = headstart.dataset(photos, model.input_spec)
    batches = DataLoader(data.torch("train"), 8, shuffle=True)
    assert list(headstart.lint(model.train(), optimizer, loader=batches)) == []


def test_a_network_alone_can_be_looked_at():
    assert not headstart.lint(network())


# Mistakes, one at a time


def test_frozen_parameters_in_the_optimizer(loader):
    model = frozen_but_for_the_head()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    assert kinds(headstart.lint(model, optimizer, loader=loader())) == [
        ("frozen-in-optimizer", "warning")
    ]


def test_trainable_parameters_missing_from_it(loader):
    model = network()
    optimizer = torch.optim.AdamW(model.get_classifier().parameters(), 1e-4)
    result = headstart.lint(model, optimizer, loader=loader())
    assert kinds(result) == [("not-in-optimizer", "warning")]


def test_an_optimizer_from_before_the_head_was_replaced(loader):
    model = network(1000)
    optimizer = adamw(model)
    model.reset_classifier(3)
    result = headstart.lint(model, optimizer, loader=loader())
    assert kinds(result) == [("stale-optimizer", "error")]
    assert result.errors == result.findings


@pytest.mark.parametrize("given", ["as an argument", "by the data set"])
def test_a_normalisation_that_is_not_the_networks(loader, given):
    model, data = network(), loader(v2.Normalize(**IMAGENET))
    transform = data.dataset.transform if given == "as an argument" else None
    [found] = headstart.lint(model, adamw(model), transform, data)
    assert (found.kind, found.severity) == ("normalisation", "warning")
    assert "timm says of test_resnet" in found.message
    assert "Normalize(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])" in found.hint


def test_no_normalisation_and_a_double_one(loader):
    model = network()
    for end, words in (([v2.Identity()], "does not normalise"), ([HALF, HALF], "2 times")):
        [found] = headstart.lint(model, adamw(model), loader=loader(*end))
        assert words in found.message


def test_one_that_cannot_be_read_is_found_in_the_batch(loader):
    model, data = network(), loader(v2.Lambda(lambda image: image))
    result = headstart.lint(model, adamw(model), loader=data)
    [found] = result
    assert "The batch's values go from 0 to 1: it is not normalised" in found.message
    assert any("(Lambda)" in note for note in result.notes)


def test_the_users_own_word_on_normalisation_counts(loader):
    model = network()
    assert kinds(headstart.lint(model, loader=loader(), **IMAGENET)) == [
        ("normalisation", "warning")
    ]
    clean = headstart.lint(model, loader=loader(v2.Normalize(**IMAGENET)), **IMAGENET)
    assert list(clean) == []


def test_batch_norms_that_drift_in_frozen_blocks(loader):
    model = frozen_but_for_the_head().train()
    assert kinds(headstart.lint(model, adamw(model), loader=loader())) == [
        ("batch-norm-drift", "warning")
    ]


def test_eval_mode_while_training(loader):
    model = network().eval()
    assert kinds(headstart.lint(model, adamw(model), loader=loader())) == [("eval-mode", "warning")]


def test_a_rate_that_is_high_for_pre_trained_weights_and_only_for_them(loader):
    model = network()
    [found] = headstart.lint(model, adamw(model, 0.01), loader=loader())
    assert (found.kind, found.severity) == ("rate", "warning")
    [found] = headstart.lint(model, adamw(model), highest_good_rate=3e-5)
    assert "range test" in found.message
    fresh = timm.create_model("test_resnet", num_classes=3)
    result = headstart.lint(fresh, adamw(fresh, 0.01), loader=loader())
    assert not result
    assert any("never trained" in note for note in result.notes)
    assert kinds(headstart.lint(fresh, adamw(fresh, 0.01), pretrained=True)) == [
        ("rate", "warning")
    ]


def test_a_network_without_norms_is_pre_trained_if_it_is_a_zoos():
    zoos = torchvision.models.squeezenet1_1(num_classes=3)
    assert kinds(headstart.lint(zoos, adamw(zoos, 0.1))) == [("rate", "warning")]
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 3))
    assert not headstart.lint(own, adamw(own, 0.1))


@pytest.mark.parametrize("seen", [True, False])
def test_softmax_before_cross_entropy(loader, seen):
    model = network()
    model.fc = nn.Sequential(nn.Linear(model.num_features, 3), nn.Softmax(dim=1))
    data = loader() if seen else None
    assert kinds(headstart.lint(model, adamw(model), loader=data)) == [("softmax", "warning")]
    model.fc[1] = nn.LogSoftmax(dim=1)
    assert kinds(headstart.lint(model, loader=data)) == [("softmax", "note")]
    assert not headstart.lint(model, loader=data, loss=nn.NLLLoss())


def test_logits_where_the_loss_takes_logarithms(loader):
    result = headstart.lint(network(), loader=loader(), loss=nn.NLLLoss())
    assert kinds(result) == [("softmax", "error")]


def test_labels_out_of_range(loader):
    model = network()
    data = loader(target_transform=lambda label: label + 1)
    found = headstart.lint(model, adamw(model), loader=data)
    assert kinds(found) == [("label-range", "error")]
    model = network(2)
    assert kinds(headstart.lint(model, adamw(model), loader=loader())) == [("label-range", "error")]


def test_a_head_that_was_not_replaced(loader):
    model = network(1000)
    assert kinds(headstart.lint(model, adamw(model), loader=loader())) == [("outputs", "warning")]


def test_labels_of_a_loss_for_each_output_are_not_numbers_of_classes():
    data = DataLoader(TensorDataset(torch.randn(8, 3, 32, 32).tanh(), torch.ones(8, 3).long()), 8)
    model = network()
    assert not headstart.lint(model, loader=data, loss=nn.BCEWithLogitsLoss())
    assert kinds(headstart.lint(model, loader=data)) == [("label-type", "error")]


def test_images_class_by_class(loader):
    model = network()
    assert kinds(headstart.lint(model, adamw(model), loader=loader(shuffle=False))) == [
        ("not-shuffled", "warning")
    ]


def test_pixels_that_were_not_scaled_or_not_made_floats():
    labels = torch.tensor([0, 1, 2, 0])
    pixels = torch.randint(256, (4, 3, 32, 32))
    for images, kind in ((pixels.float(), "pixel-range"), (pixels.byte(), "image-type")):
        found = headstart.lint(network(), loader=[(images, labels)])
        assert kinds(found) == [(kind, "error")]


def test_a_network_that_normalises_itself_takes_pixels():
    model = nn.Sequential(v2.ToDtype(torch.float32, scale=True), HALF, network())
    pixels = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    assert not headstart.lint(model, loader=[(pixels, torch.tensor([0, 1, 2, 0]))])


def test_parameters_that_no_gradient_reaches(loader):
    class Detached(nn.Module):
        def __init__(self, backbone, at_end):
            super().__init__()
            self.backbone, self.head, self.at_end = backbone, nn.Linear(64, 3), at_end

        def forward(self, images):
            features = self.backbone(images)
            features = features if self.at_end else features.detach()
            return self.head(features).detach() if self.at_end else self.head(features)

    backbone = timm.create_model("test_resnet", num_classes=0)
    width = backbone.num_features
    for at_end, severity in ((False, "warning"), (True, "error")):
        model = Detached(backbone, at_end)
        model.head = nn.Linear(width, 3)
        result = headstart.lint(model, adamw(model), loader=loader(), pretrained=False)
        assert kinds(result) == [("no-gradient", severity)]


def test_every_finding_names_a_fix(loader):
    model = network(2).eval()
    optimizer = torch.optim.SGD(model.parameters(), 1.0, momentum=0.9)
    model.fc = nn.Sequential(nn.Linear(model.num_features, 2), nn.Softmax(dim=1))
    model.layer1.requires_grad_(requires_grad=False)
    result = headstart.lint(model, optimizer, loader=loader(HALF, HALF, shuffle=False))
    assert {finding.kind for finding in result} >= {
        *("stale-optimizer", "label-range", "eval-mode", "frozen-in-optimizer", "rate"),
        *("normalisation", "softmax", "not-shuffled"),
    }
    assert all(finding.hint for finding in result)
    assert [finding.severity for finding in result][:2] == ["error", "error"]


# What can't be looked at


def test_batches_of_another_form_and_networks_that_take_more_are_noted(loader):
    result = headstart.lint(network(), loader=["text"])
    assert (len(result), "were not looked at" in result.notes[0]) == (0, True)
    two = nn.Bilinear(3, 3, 2)
    result = headstart.lint(two, loader=loader())
    assert any("was not tried on the batch" in note for note in result.notes)


def test_an_unknown_network_is_not_compared_and_that_is_said(loader):
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    result = headstart.lint(own, loader=loader(), pretrained=True)
    assert not result
    assert any("mean= and std= tell" in note for note in result.notes)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"model": "resnet18"}, "model"),
        ({"optimizer": [1]}, "optimizer"),
        ({"mean": [0.5]}, "std"),
        ({"std": [0.5]}, "mean"),
        ({"loader": iter([])}, "loader"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, field):
    with pytest.raises(UsageError) as error:
        headstart.lint(**{"model": nn.Linear(2, 2)} | arguments)
    assert error.value.field == field


def test_an_optimizer_inside_of_something_else_is_found():
    model = network()
    scheduler = torch.optim.lr_scheduler.StepLR(adamw(model, 0.1), 5)
    assert kinds(headstart.lint(model, scheduler)) == [("rate", "warning")]


# Nothing is changed


def everything(model, optimizer, data) -> list[bytes]:
    """Return all state there is: weights, statistics, gradients, modes, optimizer, chance."""
    tensors = [*model.state_dict().values()]
    tensors += [value.grad for value in model.parameters() if value.grad is not None]
    for state in optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    tensors += [torch.get_rng_state(), data.generator.get_state()]
    others = [[m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]]
    others += [[id(p) for p in model.parameters()], random.getstate(), optimizer.param_groups]
    others += [np.random.get_state()]
    return [t.detach().numpy().tobytes() for t in tensors] + [repr(o).encode() for o in others]


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
@pytest.mark.parametrize("mode", [True, False])
def test_lint_leaves_everything_bit_equal(folder, name, mode):
    model = network(name=name, drop_rate=0.3).train(mode)
    optimizer = adamw(model)
    size = model.pretrained_cfg["input_size"][1]
    chance = v2.Compose([*FIRST, v2.Resize(size), v2.RandomHorizontalFlip(), HALF])
    generator = torch.Generator().manual_seed(5)
    data = DataLoader(ImageFolder(folder, chance), 8, shuffle=True, generator=generator)
    images, labels = next(iter(data))
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
    before = everything(model, optimizer, data)
    headstart.lint(model, optimizer, loader=data)
    assert everything(model, optimizer, data) == before
