"""What a data set says of its labels: range, count and order, without an image read."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from headstart.label_lint import dataset_findings, shuffling_findings


class Folder(Dataset):
    """As torchvision's ImageFolder; reading an image is an error."""

    def __init__(self, targets, classes=("cat", "dog", "owl")):
        self.targets, self.classes = targets, list(classes)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        raise AssertionError("an image was read")


ORDERED = [0] * 8 + [1] * 8 + [2] * 8
MIXED = [0, 1, 2] * 8


def of_dataset(dataset, outputs):
    found = dataset_findings(DataLoader(dataset, 4), outputs)
    return [(one.kind, one.severity) for one in found]


def of_order(dataset, labels=None, **options):
    return list(shuffling_findings(DataLoader(dataset, 8, **options), labels))


@pytest.mark.parametrize("targets", [MIXED, torch.tensor(MIXED)])
def test_labels_that_fit_give_no_finding(targets):
    assert of_dataset(Folder(targets), 3) == []
    assert of_dataset(Subset(Folder(targets), [0, 1, 2]), 3) == []
    assert of_dataset(Folder(targets), None) == []


def test_a_label_beyond_the_outputs_is_found_without_reading_images():
    assert of_dataset(Folder([*MIXED, 3]), 3) == [("label-range", "error")]
    assert of_dataset(Subset(Folder([*MIXED, 3]), [0, 24]), 3) == [("label-range", "error")]


def test_a_head_of_another_number_of_classes_is_found():
    [found] = dataset_findings(DataLoader(Folder(MIXED), 4), 1000)
    assert (found.kind, found.severity) == ("outputs", "warning")
    assert "1000 outputs, and the data set 3 classes" in found.message
    assert "3 outputs" in found.hint
    folder = Folder([0, 1], classes="abcd")
    assert of_dataset(folder, 3) == [("outputs", "error")]


def test_labels_are_judged_as_a_target_transform_makes_them():
    folder = Folder([1, 2, 3])
    folder.target_transform = lambda label: label - 1
    assert of_dataset(folder, 3) == []
    assert of_dataset(Subset(folder, [0, 2]), 3) == []
    folder = Folder(MIXED)
    folder.target_transform = lambda label: label + 1
    [found] = dataset_findings(DataLoader(folder, 4), 3)
    assert "counted from 1" in found.hint
    folder.target_transform = lambda label: {"no": label}
    assert of_dataset(folder, 3) == []


def test_data_sets_that_say_nothing_are_not_judged():
    tensors = TensorDataset(torch.zeros(4, 1), torch.arange(4))
    for dataset in (tensors, ConcatDataset([tensors, tensors]), Folder(["a", "b"], "abc")):
        assert of_dataset(dataset, 3) == []
    assert list(dataset_findings([1, 2], 3)) == []


# Order


def test_images_class_by_class_are_found():
    [found] = of_order(Folder(ORDERED), torch.zeros(8, dtype=torch.int64))
    assert (found.kind, found.severity) == ("not-shuffled", "warning")
    assert "The first batch is of one class" in found.message
    assert "shuffle=True" in found.hint
    [found] = of_order(Folder(ORDERED))
    assert "The labels are in order" in found.message


@pytest.mark.parametrize(
    "options", [{"shuffle": True}, {"sampler": WeightedRandomSampler([1] * 24, 24)}]
)
def test_a_loader_that_draws_is_not_judged_by_one_batch(options):
    assert of_order(Folder(ORDERED), torch.zeros(8, dtype=torch.int64), **options) == []


def test_a_data_set_that_was_shuffled_itself_is_fine_and_so_is_one_of_one_class():
    assert of_order(Folder(MIXED), torch.tensor(MIXED[:8])) == []
    assert of_order(Subset(Folder(ORDERED), [20, 3, 9, 1])) == []
    assert of_order(Folder([0] * 24), torch.zeros(8, dtype=torch.int64)) == []


def test_of_a_stream_the_first_batch_tells():
    class Stream(IterableDataset):
        def __iter__(self):
            yield from range(8)

    [found] = of_order(Stream(), torch.zeros(8, dtype=torch.int64))
    assert "iterable" in found.hint
    assert of_order(Stream(), torch.arange(8)) == []
    assert list(shuffling_findings([1], torch.arange(8))) == []
