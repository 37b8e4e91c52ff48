"""What a phase that trains is fed: which stream, and which weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstart.cache import Cache
from headstart.feeding import class_weights, stream_of
from headstart.training.boundary import Boundary
from headstart.training.pixels import Pixels
from planned import LAST


def test_a_phase_reads_what_its_frozen_blocks_give_or_the_pixels(prepared, tmp_path):
    plan, images = prepared(LAST)
    (phase,), cache = plan.strategy.phases, Cache(tmp_path / "cache")
    behind = stream_of(plan, images, phase, plan.sizes[0].prefix, cache, plan.path)
    assert isinstance(behind, Boundary)
    assert behind.start == plan.sizes[0].prefix
    plain = stream_of(plan, images, phase, 0, cache, plan.path)
    assert isinstance(plain, Pixels)


def test_a_transform_from_python_makes_the_views(prepared, tmp_path):
    plan, images = prepared(LAST, augment=lambda image: image * 0)
    (phase,) = plan.strategy.phases
    stream = stream_of(plan, images, phase, 0, Cache(tmp_path / "cache"), plan.path)
    assert stream.custom is plan.options.augment


def test_rare_classes_weigh_more_where_that_is_asked_for(prepared):
    plan, images = prepared(LAST)
    assert class_weights(plan, images) is None
    plan, images = prepared(LAST, class_weights="balanced")
    train = images.parts["train"]
    kept = np.concatenate([train[images.labels[train] == 0][:2], train[images.labels[train] == 1]])
    many = int((images.labels[kept] == 1).sum())
    fewer = replace(images, parts=images.parts | {"train": kept})
    expected = [len(kept) / (2 * 2), len(kept) / (2 * many)]
    assert class_weights(plan, fewer).tolist() == pytest.approx(expected)
