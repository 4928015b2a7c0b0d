"""The collector of a serving process still collects."""

from __future__ import annotations

import gc
import weakref

from helexa.util import collector


class Ring:
    def __init__(self) -> None:
        self.me = self


def test_rings_made_while_serving_are_freed_and_what_start_up_made_is_left_alone() -> None:
    before = gc.get_threshold()
    try:
        collector.calm()
        assert gc.get_freeze_count() > 0
        ring = weakref.ref(Ring())
        others = [[] for _ in range(collector.YOUNG_MAX + 1)]
        assert ring() is None
        assert len(others) > collector.YOUNG_MAX
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
