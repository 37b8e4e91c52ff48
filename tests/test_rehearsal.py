"""One batch and one pass of a copy: what they tell, and that nothing is changed by them."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from headstart.rehearsal import MOST_IMAGES, first_batch, rehearse, untouched

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network(*end: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
        *end,
    )


def state_of(model: nn.Module) -> list[torch.Tensor]:
    tensors = [value.detach().clone() for value in model.state_dict().values()]
    tensors += [value.grad.clone() for value in model.parameters() if value.grad is not None]
    return [*tensors, torch.tensor([module.training for module in model.modules()])]


class Rows(Dataset):
    """Draws from every global generator there is."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        random.random()
        np.random.rand()
        return torch.randn(3, 8, 8), index % 3


class Stream(IterableDataset):
    def __iter__(self):
        yield from ((torch.zeros(3, 4, 4), label) for label in range(5))


# A batch


@pytest.mark.parametrize("workers", [0, 1])
def test_the_first_batch_of_a_loader(workers):
    batch = first_batch(DataLoader(Rows(), batch_size=4, num_workers=workers))
    assert batch.images.shape == (4, 3, 8, 8)
    assert batch.labels.tolist() == [0, 1, 2, 0]


def test_workers_that_would_stay_are_ended():
    loader = DataLoader(Rows(), batch_size=4, num_workers=1, persistent_workers=True)
    first_batch(loader)
    assert loader._iterator is None
    assert len(list(loader)) == 3


def test_workers_that_are_at_work_already_stay():
    loader = DataLoader(Rows(), batch_size=4, num_workers=1, persistent_workers=True)
    list(loader)
    before = loader._iterator
    first_batch(loader)
    assert loader._iterator is before
    assert len(list(loader)) == 3


@pytest.mark.parametrize(
    "batch",
    [
        (IMAGES, [0, 1, 2, 0, 1, 2]),
        [IMAGES, torch.tensor([0, 1, 2, 0, 1, 2]), "paths"],
        {"pixel_values": IMAGES, "labels": torch.tensor([0, 1, 2, 0, 1, 2])},
        {"image": IMAGES, "label": (0, 1, 2, 0, 1, 2)},
    ],
)
def test_batches_of_many_forms_are_understood(batch):
    told = first_batch([batch])
    assert told.images.shape == IMAGES.shape
    assert told.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_images_without_labels_are_a_batch_too():
    assert first_batch([IMAGES]).labels is None
    assert first_batch([(IMAGES, ["cat"] * 6)]).labels is None
    assert first_batch([(IMAGES, [])]).labels is None


@pytest.mark.parametrize("loader", [[], ["text"], [{"a": 1}], [(IMAGES[:0], [])], [(3, 4)]])
def test_other_batches_are_none(loader):
    assert first_batch(loader) is None


def test_an_iterable_data_set_gives_its_first_batch():
    assert first_batch(DataLoader(Stream(), batch_size=2)).labels.tolist() == [0, 1]


# A pass


@pytest.mark.parametrize("mode", [True, False])
def test_a_pass_gives_outputs_and_changes_nothing(mode):
    model = network().train(mode)
    model(IMAGES).sum().backward()
    before = state_of(model)
    ran = rehearse(model, IMAGES)
    assert ran.outputs.shape == (MOST_IMAGES, 3)
    assert (ran.unreached, ran.error, ran.outputs.requires_grad) == ((), None, False)
    assert all(map(torch.equal, before, state_of(model)))


def test_parameters_that_no_gradient_reaches_are_told():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head, self.spare = network(), nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, images):
            return self.head(self.body(images).detach())

    model = Detached()
    model.spare.weight.requires_grad_(requires_grad=False)
    unreached = rehearse(model, IMAGES).unreached
    assert set(unreached) == {f"body.{n}" for n, _ in model.body.named_parameters()} | {
        "spare.bias"
    }


def test_a_network_without_gradients_is_told_and_one_without_parameters_is_fine():
    class Never(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        @torch.no_grad()
        def forward(self, images):
            return self.body(images)

    assert len(rehearse(Never(), IMAGES).unreached) == 6
    frozen = network().requires_grad_(requires_grad=False)
    assert rehearse(frozen, IMAGES).unreached == ()
    assert rehearse(nn.Flatten(), IMAGES).outputs.shape == (4, 192)


def test_outputs_in_tuples_and_dicts_are_found_and_all_of_them_count():
    class Two(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.main, self.aux, self.kind = network(), network(), kind

        def forward(self, images):
            found = self.main(images), self.aux(images)
            return dict(zip(("logits", "aux"), found, strict=True)) if self.kind else found

    for kind in (True, False):
        ran = rehearse(Two(kind), IMAGES)
        assert (ran.outputs.shape, ran.unreached) == ((4, 3), ())


def test_one_image_goes_through_batch_norms_too():
    flat = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 2))
    assert rehearse(flat, IMAGES[:1]).outputs.shape == (1, 2)


def test_half_precision_is_met_by_the_images():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).to(torch.bfloat16)
    assert rehearse(model, IMAGES).error is None


def test_what_goes_wrong_is_told_in_a_line():
    ran = rehearse(nn.Linear(5, 2), IMAGES)
    assert ran.error.startswith("RuntimeError: ")
    assert "mat1 and mat2 shapes cannot be multiplied" in ran.error

    class Own(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("not to be copied\nreally")

    ran = rehearse(Own(5, 2), IMAGES)
    assert ran.error == "The network can't be copied: TypeError: not to be copied"


def test_hooks_of_the_users_are_not_called_and_those_that_compute_are():
    seen = []
    model = network()
    model.register_forward_hook(lambda *_: seen.append(1))
    model[0].register_forward_pre_hook(lambda *_: seen.append(1))
    model[5] = nn.utils.spectral_norm(model[5])
    before = state_of(model)
    assert rehearse(model, IMAGES).error is None
    assert seen == []
    assert all(map(torch.equal, before, state_of(model)))
    assert len(model._forward_hooks) == 1


# Chance


def test_all_generators_are_put_back():
    def drawn() -> list[float]:
        ours = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        return [*ours, float(torch.rand((), generator=generator))]

    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(
        TensorDataset(IMAGES, torch.arange(6)), 2, shuffle=True, generator=generator
    )
    with untouched(loader):
        first = drawn()
        list(loader)
    with untouched(loader):
        assert drawn() == first
    with pytest.raises(ZeroDivisionError), untouched(loader):
        drawn()[0] / 0
    assert drawn() == first
