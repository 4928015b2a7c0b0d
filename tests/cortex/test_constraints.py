"""Where the catalogue lets a model run."""

from __future__ import annotations

import msgspec
import pytest
from tests.cortex.fleets import descriptor, node

from helexa.cortex.orchestrator.constraints import is_bound, why_not_there
from helexa.cortex.settings import ModelEntry

HERE = msgspec.structs.replace(
    descriptor(0xAB << 248),
    name="rack1",
    region="eu-west",
    labels={"gpu": "a100", "disk": "ssd"},
    runtimes=("llama_cpp", "vllm"),
)


@pytest.mark.parametrize(
    ("constraint", "word"),
    [
        ({}, ""),
        ({"labels": {"gpu": "a100"}}, ""),
        ({"labels": {"gpu": "a100", "disk": "hdd"}}, "disk=hdd"),
        ({"labels": {"power": "green"}}, "power=green"),
        ({"regions": ("eu-*",)}, ""),
        ({"regions": ("!eu-north", "eu-*")}, ""),
        ({"regions": ("us-*",)}, "in region eu-west, not in us-*"),
        ({"operators": (HERE.operator[:8],)}, ""),
        ({"operators": (HERE.operator[:7],)}, "operators"),
        ({"operators": (str(node(7)),)}, "operators"),
        ({"nodes": ("other", "rack1")}, ""),
        ({"nodes": (HERE.node.upper()[:12],)}, ""),
        ({"nodes": (str(HERE.node),)}, ""),
        ({"nodes": ("ab",)}, "nodes"),
        ({"nodes": ("rack2",)}, "nodes"),
        ({"runtime": "vllm"}, ""),
        ({"runtime": "mistral_rs"}, "it has llama_cpp, vllm (runtime)"),
    ],
)
def test_a_neuron_that_breaks_a_constraint_is_told_which(
    constraint: dict[str, object], word: str
) -> None:
    entry = ModelEntry(id="m", **constraint)  # type: ignore[arg-type]
    found = why_not_there(entry, HERE)
    assert bool(found) == bool(word)
    assert word in found
    assert is_bound(entry) == bool(constraint)


def test_a_neuron_that_does_not_say_what_it_runs_may_run_anything() -> None:
    silent = msgspec.structs.replace(HERE, runtimes=())
    assert why_not_there(ModelEntry(id="m", runtime="vllm"), silent) == ""


def test_a_neuron_without_a_region_is_in_none() -> None:
    nowhere = msgspec.structs.replace(HERE, region="")
    assert "no region" in why_not_there(ModelEntry(id="m", regions=("eu-*",)), nowhere)
