"""Names of quantisations: one order, OpenRouter's kinds, and nothing for what is unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.neuron.models.describe import _QUANTISATION
from helexa.protocol.quantisation import KINDS, bits, is_at_least, is_known, is_one_of, kind


def test_the_usual_ones_are_in_the_order_of_what_they_keep() -> None:
    names = ["IQ2_XS", "Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16", "F32"]
    assert sorted(names, key=bits) == names


@pytest.mark.parametrize("name", [*_QUANTISATION.values(), *(one for one in KINDS[:-1])])
def test_every_name_that_a_neuron_reads_from_a_file_or_openrouter_has_is_known(name: str) -> None:
    assert is_known(name)
    assert is_at_least(name.lower(), name)


@given(st.sampled_from(list(_QUANTISATION.values())), st.text(max_size=8))
def test_a_name_that_is_unknown_satisfies_nothing(name: str, other: str) -> None:
    if not is_known(other):
        assert not is_at_least(other, name)
        assert not is_at_least(name, other)
        assert kind(other) == "unknown"


def test_a_kind_takes_the_names_of_several_tools() -> None:
    assert is_one_of("Q4_K_M", ("int4",))
    assert is_one_of("q4_k_m", ("Q4_K_M",))
    assert is_one_of("F8_E4M3", ("fp8", "int4"))
    assert is_one_of("", ("unknown",))
    assert not is_one_of("Q6_K", ("int4", "int8", "fp6", "unknown"))
    assert not is_one_of("Q4_K_S", ("Q4_K_M",))
