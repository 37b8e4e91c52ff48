"""A range test's record as plain JSON."""

from __future__ import annotations

import json

from headstart.training.range_record import RangeTest


def test_it_is_plain_json():
    test = RangeTest(
        group="head",
        planned=1e-3,
        rates=(1e-4, 1e-3),
        losses=(0.5, 0.4),
        before=(0.6, 0.6),
        guessing=0.69,
        smoothed=(0.55, 0.45),
        suggestion=None,
        highest_good_rate=1e-2,
        reason="no suggestion",
        rules={"steepest": 1e-4},
        stopped="deadline",
        seconds=1.5,
    )
    document = json.loads(json.dumps(test.to_dict(), allow_nan=False))
    assert document.keys() == set(RangeTest.__dataclass_fields__)
    assert document["rates"] == [1e-4, 1e-3]
    assert document["rules"] == {"steepest": 1e-4}
    assert document["suggestion"] is None
