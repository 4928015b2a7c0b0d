"""What transformers and torch say when they cannot load, and what our child says to a client."""

from __future__ import annotations

import re
from typing import Final

from helexa.protocol.errors import HelexaError
from helexa.runtime import exits, own_child
from helexa.runtime.contract import Exit, ExitReason, ReplicaSpec, Requirement

NAME: Final = "transformers"
REQUIREMENT: Final = Requirement(
    module="transformers", install="pip install 'helexa[transformers]'"
)


def meaning(status: int, body: bytes, spec: ReplicaSpec) -> HelexaError:
    return own_child.meaning(status, body, spec, runtime=NAME)


_MISSING: Final = re.compile(
    r"No module named '?(?:transformers|torch|PIL|accelerate|llguidance)|"
    r"requires the (?:PIL|PyTorch|torchvision|accelerate)|requires `accelerate`"
)
_PHRASES: Final = (
    (
        re.compile(
            r"does not recognize this architecture|Unrecognized (?:model|configuration class)|"
            r"trust_remote_code|has no attribute 'Auto"
        ),
        ExitReason.ARCHITECTURE_UNKNOWN,
    ),
    (
        re.compile(
            r"out of memory|bad_alloc|can't allocate memory|cannot allocate memory|MemoryError",
            re.IGNORECASE,
        ),
        ExitReason.OUT_OF_MEMORY,
    ),
    (
        re.compile(r"CUDA is not available|CUDA error|no kernel"),
        ExitReason.SETTINGS_UNSUITABLE,
    ),
    (re.compile(r"couldn't bind|Address already in use"), ExitReason.SOCKET_TAKEN),
    (
        re.compile(
            r"Safetensors?Error|Error while deserializing|size mismatch|ignore_mismatched|"
            r"does not appear to have a file named|no file named|JSONDecodeError|"
            r"Can't load (?:tokenizer|the model|image processor|processor|feature extractor)|"
            r"Couldn't instantiate|is not a valid JSON|transformers did not start"
        ),
        ExitReason.MODEL_UNREADABLE,
    ),
)


def exit_of(status: int, log_tail: str) -> Exit:
    if _MISSING.search(log_tail):
        return exits.not_installed(REQUIREMENT)
    return exits.explained(status, log_tail, _PHRASES)
