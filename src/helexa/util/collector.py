"""The garbage collector of a process that serves: asked rarely, and never to look at what stays.

Reference counts free nearly everything here at once. The collector is for rings,
and by default it passes over the youngest objects after every 700 new ones, which
is after each wave of a few dozen requests, and now and then over all that
start-up imported: 50 ms in which every stream stands still.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG_MAX: Final = 50_000
"""New objects between two passes: some 10 MB when all of them were garbage."""


def calm() -> None:
    """To be called once, when the process serves. What exists now is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, 20, 20)
