"""What the files of a pulled model are called in the models folder: so that it lists them by the
model's own name.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

from helexa.neuron.models.supply.choice import Chosen
from helexa.neuron.models.supply.failure import SourceFailed
from helexa.protocol.ids import ModelId

_MISLEADING: Final = re.compile(r".*(-\d{5}-of-\d{5}|\.mmproj)\Z")


def targets(model: ModelId, chosen: Chosen) -> dict[str, str]:
    """Name at the source -> path in the models folder, in the order to put them there.

    The last one is what makes a listing see a model: before it, nothing is there.
    Raises SourceFailed for an id that would be read as a part of something.
    """
    last = PurePosixPath(model).name
    if _MISLEADING.match(last) or last.startswith("mmproj-") or last.endswith(".gguf"):
        raise SourceFailed(f"a model called {model} could not be told from a part of another")
    if not chosen.is_gguf:
        rest = [name for name in (*chosen.weights, *chosen.beside) if name != "config.json"]
        return {name: f"{model}/{name}" for name in (*rest, "config.json")}
    found = {chosen.projector: f"{model}.mmproj.gguf"} if chosen.projector else {}
    if len(chosen.weights) == 1:
        return found | {chosen.weights[0]: f"{model}.gguf"}
    count = len(chosen.weights)
    numbered = {
        name: f"{model}-{at:05d}-of-{count:05d}.gguf" for at, name in enumerate(chosen.weights, 1)
    }
    return found | dict(reversed(numbered.items()))
