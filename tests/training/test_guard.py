"""What an optimizer holds and in which modes layers are: each mistake is planted and found."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from headstart.training.anatomy import head_of
from headstart.training.guard import mode_findings, optimizer_findings


def convolutional(dropout: float = 0.5) -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4, 3),
    )


def freeze(*modules: nn.Module) -> None:
    for module in modules:
        module.requires_grad_(requires_grad=False)


def awake(model: nn.Module) -> list[nn.Parameter]:
    return [value for value in model.parameters() if value.requires_grad]


def of_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, others=()):
    parameters = dict(model.named_parameters())
    return list(optimizer_findings(parameters, optimizer, head=head_of(model), others=others))


def kinds(found) -> list[tuple[str, str]]:
    return [(finding.kind, finding.severity) for finding in found]


# What the optimizer holds


@pytest.mark.parametrize(
    "make",
    [
        convolutional,
        lambda: timm.create_model("test_resnet", num_classes=3),
        lambda: timm.create_model("test_vit", num_classes=3),
        lambda: torchvision.models.mobilenet_v3_small(num_classes=3),
    ],
    ids=["own", "resnet", "vit", "mobilenet"],
)
def test_a_clean_set_up_gives_no_finding_whatever_is_frozen(make):
    model = make()
    assert of_optimizer(model, torch.optim.AdamW(model.parameters())) == []
    assert list(mode_findings(model)) == []
    head = head_of(model)
    for value in model.parameters():
        value.requires_grad_(id(value) in head)
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    assert of_optimizer(model, torch.optim.AdamW(awake(model))) == []
    assert list(mode_findings(model)) == []


def test_frozen_parameters_in_the_optimizer_are_found():
    model = convolutional()
    freeze(model[0])
    [found] = of_optimizer(model, torch.optim.SGD(model.parameters(), 0.01, weight_decay=0.1))
    assert (found.kind, found.severity) == ("frozen-in-optimizer", "warning")
    assert "4 parameter tensors that are frozen: 0.0.weight, 0.0.bias, 0.1.weight and 1 more" in (
        found.message
    )
    assert "requires_grad)" in found.hint


def test_frozen_parameters_that_still_have_a_gradient_are_said_to_move_and_do():
    model = convolutional()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.1)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    freeze(model[0])
    [found] = of_optimizer(model, optimizer)
    assert "4 of them (0.0.weight, 0.0.bias" in found.message
    assert "weight decay included" in found.message
    before = model[0][0].weight.clone()
    optimizer.step()
    assert not torch.equal(before, model[0][0].weight)


def test_what_is_said_of_frozen_parameters_without_a_gradient_is_true():
    model = convolutional()
    freeze(model[0])
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.5)
    before = model[0][0].weight.clone()
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    assert torch.equal(before, model[0][0].weight)


def test_trainable_parameters_that_the_optimizer_lacks_are_found():
    model = convolutional()
    [found] = of_optimizer(model, torch.optim.Adam(model[5].parameters()))
    assert (found.kind, found.severity) == ("not-in-optimizer", "warning")
    assert "8 of 10 trainable parameter tensors" in found.message
    assert "p.requires_grad_(False)" in found.hint


def test_a_head_that_the_optimizer_lacks_is_fatal():
    model = convolutional()
    [found] = of_optimizer(model, torch.optim.Adam(model[:5].parameters()))
    assert (found.kind, found.severity) == ("not-in-optimizer", "error")
    assert "The head's 5.weight, 5.bias is not in the optimizer" in found.message


def test_an_optimizer_made_before_the_head_was_replaced_is_fatal():
    model = torchvision.models.mobilenet_v3_small()
    optimizer = torch.optim.Adam(model.parameters())
    model.classifier[3] = nn.Linear(1024, 3)
    [found] = of_optimizer(model, optimizer)
    assert (found.kind, found.severity) == ("stale-optimizer", "error")
    assert "2 parameter tensors it holds are not in the network" in found.message
    assert "classifier.3.weight, classifier.3.bias" in found.message
    assert "after the last change" in found.hint


def test_the_same_with_timms_own_way_to_replace_it():
    model = timm.create_model("test_resnet")
    optimizer = torch.optim.Adam(model.parameters())
    model.reset_classifier(3)
    assert kinds(of_optimizer(model, optimizer)) == [("stale-optimizer", "error")]


def test_an_optimizer_of_a_copy_is_fatal():
    model = convolutional()
    found = of_optimizer(copy.deepcopy(model), torch.optim.Adam(model.parameters()))
    assert kinds(found) == [("stale-optimizer", "error")]


def test_an_optimizer_of_something_else_altogether_is_fatal():
    model, loss = convolutional(), nn.Linear(3, 3)
    optimizer = torch.optim.Adam(loss.parameters())
    [found] = of_optimizer(model, optimizer, others=set(map(id, loss.parameters())))
    assert (found.kind, found.severity) == ("not-in-optimizer", "error")
    assert "None of the network's trainable parameters" in found.message


def test_parameters_of_others_are_found_unless_they_are_the_losss():
    model, loss = convolutional(), nn.Linear(3, 3)
    optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()])
    assert kinds(of_optimizer(model, optimizer)) == [("foreign-parameters", "warning")]
    assert of_optimizer(model, optimizer, others=set(map(id, loss.parameters()))) == []


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_parameters_that_are_held_twice_are_found():
    model = convolutional()
    optimizer = torch.optim.SGD([*model.parameters(), *model[5].parameters()], 0.1)
    [found] = of_optimizer(model, optimizer)
    assert (found.kind, found.severity) == ("held-twice", "warning")
    assert "2 parameter tensors more than once: 5.weight, 5.bias" in found.message


def test_a_network_with_nothing_to_train_is_fatal():
    model = convolutional()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    freeze(model)
    assert ("nothing-trains", "error") in kinds(of_optimizer(model, optimizer))


# Modes


def test_eval_mode_is_found_where_it_changes_what_is_trained():
    model = convolutional().eval()
    [found] = mode_findings(model)
    assert (found.kind, found.severity) == ("eval-mode", "warning")
    assert "(0.1, 1.1, 4)" in found.message
    assert "model.train()" in found.hint


def test_eval_mode_is_right_for_a_frozen_network_but_not_for_dropout_before_its_head():
    model = convolutional(dropout=0.0).eval()
    freeze(model[0], model[1])
    assert list(mode_findings(model)) == []
    model = convolutional().eval()
    freeze(model[0], model[1], model[5])
    assert list(mode_findings(model)) == []
    model[3] = nn.Sequential(nn.Flatten(), nn.Linear(4, 4)).eval()  # the dropout is behind it
    [found] = mode_findings(model)
    assert "(4)" in found.message


def test_stochastic_depth_counts_as_dropout():
    model = timm.create_model("test_vit", drop_path_rate=0.2).eval()
    [found] = mode_findings(model)
    assert "drop_path" in found.message
    assert list(mode_findings(timm.create_model("test_vit").eval())) == []
    tree = torchvision.models.efficientnet_b0(stochastic_depth_prob=0.2).eval()
    for module in tree.modules():
        if isinstance(module, nn.BatchNorm2d):
            freeze(module)
    [found] = mode_findings(tree)
    assert "stochastic_depth" in found.message


def test_batch_norms_of_trained_parts_may_hold_their_statistics():
    model = convolutional()
    model[0][1].eval()
    model[1][1].eval()
    assert list(mode_findings(model)) == []


def test_batch_norms_that_drift_in_frozen_parts_are_found_and_do_drift():
    model = convolutional()
    freeze(model[0])
    [found] = mode_findings(model)
    assert (found.kind, found.severity) == ("batch-norm-drift", "warning")
    assert "1 batch norm of frozen parts (0.1) is in training mode" in found.message
    before = model[0][1].running_mean.clone()
    model(torch.randn(2, 3, 8, 8))
    assert not torch.equal(before, model[0][1].running_mean)


def test_the_fix_that_is_named_ends_the_drift():
    model = torchvision.models.resnet18(num_classes=3)
    freeze(model)
    model.fc.requires_grad_()
    [found] = mode_findings(model.train())
    exec(found.hint.partition("back: ")[2].removesuffix("."), {"model": model, "nn": nn})
    assert list(mode_findings(model)) == []


def test_a_batch_norm_without_parameters_drifts_with_the_part_it_is_in():
    block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False))
    model = nn.Sequential(block, nn.Flatten(), nn.Linear(4, 3))
    assert list(mode_findings(model)) == []
    freeze(block)
    [found] = mode_findings(model)
    assert "(0.1)" in found.message


def test_norms_that_keep_no_statistics_or_never_move_them_do_not_drift():
    model = nn.Sequential(
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4, track_running_stats=False),
            torchvision.ops.FrozenBatchNorm2d(4),
            nn.GroupNorm(2, 4),
            nn.InstanceNorm2d(4, track_running_stats=True),
        ),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    freeze(model[0])
    assert list(mode_findings(model)) == []


def test_timms_norm_with_an_activation_is_a_batch_norm():
    model = timm.create_model("test_efficientnet", num_classes=3)
    freeze(model)
    model.classifier.requires_grad_()
    [found] = mode_findings(model)
    assert found.kind == "batch-norm-drift"
    assert list(mode_findings(timm.layers.freeze_batch_norm_2d(model))) == []
