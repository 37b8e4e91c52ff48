"""What an image's nearest neighbours take it for."""

from __future__ import annotations

import numpy as np

from headstart.probe_neighbours import NEIGHBOURS, vote
from probed import blobs


def brute(known, asked, labels, groups):
    """Count the votes one by one."""
    mean = known.mean(axis=0)
    named = []
    for one, group in zip(asked - mean, groups, strict=False):
        cosine = [
            one @ other / np.linalg.norm(one) / np.linalg.norm(other) for other in known - mean
        ]
        order = [i for i in np.argsort(cosine)[::-1] if groups[i] != group][:NEIGHBOURS]
        counts = np.bincount(labels[order], minlength=labels.max() + 1)
        most = np.flatnonzero(counts == counts.max())
        near = [sum(cosine[i] for i in order if labels[i] == label) for label in most]
        named.append(most[int(np.argmax(near))])
    return named


def test_votes_are_counted_as_by_hand():
    known, labels = blobs(80, apart=0.7)
    groups = np.arange(80) // 3
    assert vote(known, known, labels, groups).tolist() == brute(known, known, labels, groups)
    moved = known[:30] + 0.3
    assert vote(known, moved, labels, groups).tolist() == brute(known, moved, labels, groups)


def test_a_copy_in_the_same_group_has_no_vote():
    known = np.array([[3, 0], [3, 0], [2.9, 0.1], [0, 3], [0.1, 3], [0, 2.8]], np.float32)
    labels = np.array([1, 1, 0, 0, 0, 0])
    apart, joined = np.arange(6), np.array([0, 0, 2, 3, 4, 5])
    near = vote(np.repeat(known, 5, axis=0), known[:1], np.repeat(labels, 5), np.repeat(apart, 5))
    assert near.tolist() == [1]
    assert vote(known, known[:1], labels, joined).tolist() == [0]


def test_who_is_in_everybodys_group_is_named_nothing():
    known, labels = blobs(6, classes=2)
    assert vote(known, known, labels, np.zeros(6, np.int64)).tolist() == [0] * 6


def test_fewer_images_than_neighbours_all_vote():
    known = np.array([[2, 0], [1.9, 0.1], [-2, 0]], np.float32)
    labels = np.array([1, 1, 0])
    assert vote(known, known[:1], labels, np.arange(3)).tolist() == [1]
