"""What is wrong with a batch and with a network's outputs: each mistake is planted and found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from headstart.training.batch_guard import (
    image_findings,
    judges_each_output,
    label_findings,
    one_class,
    output_findings,
    wanted_by,
)

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 3.0, -2.0]])


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# Images


def test_normalised_images_and_those_of_0_to_1_give_no_finding():
    assert list(image_findings(noise(4, 3, 8, 8))) == []
    assert list(image_findings(noise(4, 3, 8, 8).sigmoid())) == []


def test_pixels_in_integers_are_found():
    [found] = image_findings((noise(4, 3, 8, 8).sigmoid() * 255).byte())
    assert (found.kind, found.severity) == ("image-type", "error")
    assert "torch.uint8" in found.message
    assert "scale=True" in found.hint


def test_pixels_that_were_not_scaled_are_found_unless_the_network_takes_them():
    pixels = noise(4, 3, 8, 8).sigmoid() * 255
    [found] = image_findings(pixels)
    assert (found.kind, found.severity) == ("pixel-range", "error")
    assert "pixels of 0 to 255 that were not scaled" in found.message
    assert list(image_findings(pixels, limit=255)) == []
    [found] = image_findings(noise(4, 3, 8, 8) * 100)
    assert "far too high" in found.message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_found_with_their_images(value):
    images = noise(4, 3, 8, 8)
    images[2, 0, 1, 1] = value
    [found] = image_findings(images)
    assert (found.kind, found.severity) == ("not-finite", "error")
    assert "1 of the first 4 images hold NaN or infinity (in the batch: 2)" in found.message


def test_images_without_anything_to_see_are_found():
    [found] = image_findings(torch.zeros(4, 3, 8, 8))
    assert (found.kind, found.severity) == ("pixel-range", "error")
    assert "nothing to see" in found.message


# Labels


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([0, 2, 1]),
        torch.tensor([-100, 0, 2]),
        torch.full((2,), -100),
        torch.full((2, 3), 1 / 3),
    ],
)
def test_labels_that_cross_entropy_takes_give_no_finding(labels):
    assert list(label_findings(labels, 3)) == []
    F.cross_entropy(torch.zeros(len(labels), 3), labels)


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        (torch.tensor([1, 3, 2]), "counted from 1: subtract 1"),
        (torch.tensor([0, 7]), "8 outputs, or more"),
        (torch.tensor([-1, 2]), "ignore_index (-100)"),
    ],
)
def test_labels_out_of_range_are_fatal_and_are_so_in_torch(labels, hint):
    [found] = label_findings(labels, 3)
    assert (found.kind, found.severity) == ("label-range", "error")
    assert hint in found.hint
    with pytest.raises(IndexError):
        F.cross_entropy(torch.zeros(len(labels), 3), labels)


def test_a_label_that_the_loss_ignores_is_in_range():
    assert list(label_findings(torch.tensor([0, 255]), 3, ignored=255)) == []


def test_shares_of_another_number_of_classes_are_found():
    [found] = label_findings(torch.full((2, 5), 0.2), 3)
    assert (found.kind, "5 classes" in found.message) == ("label-range", True)


@pytest.mark.parametrize(
    ("labels", "fix"),
    [
        (torch.tensor([0, 1], dtype=torch.int32), "labels.long()"),
        (torch.tensor([0.0, 1.0]), "labels.long()"),
        (torch.tensor([[0], [1]]), "(B,)"),
        (torch.eye(3, dtype=torch.int64), "argmax"),
    ],
)
def test_labels_of_a_wrong_type_are_found_and_are_wrong_in_torch(labels, fix):
    found = list(label_findings(labels, 3))
    assert [(one.kind, one.severity) for one in found] == [("label-type", "error")]
    assert fix in found[0].hint
    with pytest.raises((RuntimeError, ValueError)):
        F.cross_entropy(torch.zeros(len(labels), 3), labels)


def test_without_the_number_of_outputs_only_the_type_is_judged():
    assert list(label_findings(torch.tensor([99]), None)) == []


def test_a_batch_of_one_class():
    assert one_class(torch.full((8,), 2))
    assert not one_class(torch.full((7,), 2))  # may be chance
    assert not one_class(torch.tensor([2] * 8 + [1]))
    assert not one_class(torch.zeros(8, 3))


# Outputs


def test_logits_for_cross_entropy_give_no_finding():
    assert list(output_findings(LOGITS, "logits")) == []
    assert list(output_findings(LOGITS.softmax(1), None)) == []
    assert list(output_findings(torch.ones(2, 1), "logits")) == []


def test_a_softmax_before_cross_entropy_is_found_and_its_harm_is_true():
    [found] = output_findings(LOGITS.softmax(1), "logits", ["Softmax"])
    assert (found.kind, found.severity) == ("softmax", "warning")
    least = F.cross_entropy(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0]))
    assert f"below {float(least):.2f}" in found.message
    assert "(Softmax)" in found.message


def test_a_log_softmax_before_cross_entropy_is_harmless_and_said_so():
    [found] = output_findings(LOGITS.log_softmax(1), "logits")
    assert (found.kind, found.severity) == ("softmax", "note")
    labels = torch.tensor([0, 1])
    twice = F.cross_entropy(LOGITS.log_softmax(1), labels)
    assert torch.allclose(twice, F.cross_entropy(LOGITS, labels))


@pytest.mark.parametrize(("outputs", "what"), [(LOGITS, "logits"), (LOGITS.softmax(1), "prob")])
def test_the_likelihood_of_what_is_not_logarithms_is_fatal(outputs, what):
    [found] = output_findings(outputs, "log-probabilities")
    assert (found.severity, what in found.message) == ("error", True)
    assert list(output_findings(LOGITS.log_softmax(1), "log-probabilities")) == []


def test_outputs_that_are_not_finite_are_found():
    [found] = output_findings(torch.tensor([[float("nan"), 0.0]]), "logits")
    assert (found.kind, found.severity) == ("not-finite", "error")


def test_what_losses_take():
    from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

    logits = [None, nn.CrossEntropyLoss(), F.cross_entropy, nn.BCEWithLogitsLoss()]
    logits += [LabelSmoothingCrossEntropy(), SoftTargetCrossEntropy()]
    assert {wanted_by(loss) for loss in logits} == {"logits"}
    assert {wanted_by(loss) for loss in (nn.NLLLoss(), F.nll_loss)} == {"log-probabilities"}
    others = (nn.MSELoss(), nn.PoissonNLLLoss(), nn.GaussianNLLLoss(), lambda a, b: np.sum(a - b))
    assert {wanted_by(loss) for loss in others} == {None}


def test_losses_that_judge_each_output_by_itself():
    assert judges_each_output(nn.BCEWithLogitsLoss())
    assert judges_each_output(F.binary_cross_entropy_with_logits)
    assert not any(map(judges_each_output, (None, nn.CrossEntropyLoss(), F.cross_entropy)))
