"""How finely weights are stored: names of several tools in one order, and their kinds.

The order is by the bits that a weight takes, as far as its format fixes them. It says what was
kept of a model's numbers, not how good its answers are. A name that is not here is unknown,
and satisfies nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

UNKNOWN: Final = "unknown"
"""The kind of a name that says nothing, and of weights that nobody named."""

_BITS: Final[Mapping[str, float]] = {
    # llama.cpp's, with what its blocks take beside the numbers.
    "Q1_0": 1.13, "IQ1_S": 1.56, "TQ1_0": 1.69, "IQ1_M": 1.75, "IQ2_XXS": 2.06, "TQ2_0": 2.06,
    "IQ2_XS": 2.31, "IQ2_S": 2.5, "IQ2_M": 2.7, "Q2_K_S": 2.96, "Q2_K": 3.16, "IQ3_XXS": 3.06,
    "IQ3_XS": 3.3, "IQ3_S": 3.44, "IQ3_M": 3.66, "Q3_K_S": 3.5, "Q3_K_M": 3.91, "Q3_K_L": 4.27,
    "IQ4_XS": 4.25, "MXFP4": 4.25, "IQ4_NL": 4.5, "NVFP4": 4.5, "Q4_0": 4.5, "Q4_K_S": 4.58,
    "Q4_K_M": 4.85, "Q4_1": 5.0, "Q5_0": 5.5, "Q5_K_S": 5.54, "Q5_K_M": 5.69, "Q5_1": 6.0,
    "Q6_K": 6.56, "Q8_0": 8.5, "F16": 16.0, "BF16": 16.0, "F32": 32.0, "F64": 64.0,
    # Of other tools, and of OpenRouter.
    "INT4": 4.0, "FP4": 4.0, "NF4": 4.13, "AWQ": 4.25, "GPTQ": 4.25, "FP6": 6.0, "INT8": 8.0,
    "FP8": 8.0, "F8_E4M3": 8.0, "F8_E5M2": 8.0, "W8A8": 8.0, "FP16": 16.0, "FP32": 32.0,
    "FLOAT16": 16.0, "BFLOAT16": 16.0, "FLOAT32": 32.0,
}  # fmt: skip

KINDS: Final = ("int4", "int8", "fp4", "fp6", "fp8", "fp16", "bf16", "fp32", UNKNOWN)
"""As OpenRouter names them."""

_KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "IQ4_XS", "IQ4_NL"), "int4"),
    **dict.fromkeys(("INT4", "AWQ", "GPTQ"), "int4"),
    **dict.fromkeys(("Q8_0", "INT8", "W8A8"), "int8"),
    **dict.fromkeys(("FP4", "NF4", "MXFP4", "NVFP4"), "fp4"),
    "FP6": "fp6",
    **dict.fromkeys(("FP8", "F8_E4M3", "F8_E5M2"), "fp8"),
    **dict.fromkeys(("FP16", "F16", "FLOAT16"), "fp16"),
    **dict.fromkeys(("BF16", "BFLOAT16"), "bf16"),
    **dict.fromkeys(("FP32", "F32", "FLOAT32"), "fp32"),
}


def is_known(name: str) -> bool:
    return name.upper() in _BITS


def bits(name: str) -> float:
    """Of one weight; 0 for a name that is not known."""
    return _BITS.get(name.upper(), 0.0)


def kind(name: str) -> str:
    """One of `KINDS`; empty for one that is known and none of these, such as Q6_K."""
    return _KINDS.get(name.upper(), "" if is_known(name) else UNKNOWN)


def is_at_least(name: str, least: str) -> bool:
    """Whether weights called `name` are stored as finely as `least`, or finer."""
    return 0.0 < bits(least) <= bits(name)


def is_one_of(name: str, wanted: tuple[str, ...]) -> bool:
    """Whether `name`, or its kind, is among those."""
    own, its_kind = name.lower(), kind(name)
    return any(one.lower() in (own, its_kind) for one in wanted)
