"""Token buckets and meters, on a clock of their own."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helexa.cortex.accounts.limits import Rates
from helexa.cortex.gateway.admission import meter as meters
from helexa.cortex.gateway.admission.bucket import Bucket
from helexa.cortex.gateway.admission.meter import Meter, Meters, enter_all
from helexa.protocol.errors import RateLimited


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    per_s=st.floats(0.1, 50),
    most=st.integers(1, 100),
    asks=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 150)), max_size=60),
)
def test_over_any_time_no_more_is_taken_than_the_rate_allows(
    per_s: float, most: int, asks: list[tuple[float, int]]
) -> None:
    """The burst, the rate, and at most one take that was larger than all of it."""
    bucket = Bucket(per_s, most, 0.0)
    now_s, taken, largest = 0.0, 0.0, 0
    for pause_s, amount in asks:
        now_s += pause_s
        wait_s = bucket.wait_s(amount, now_s)
        if wait_s:
            assert not bucket.wait_s(amount, now_s + wait_s * 1.000001 + 1e-6)
            # Looking ahead moved its clock; what comes is no earlier.
            now_s += wait_s * 1.000001 + 1e-6
        bucket.take(amount)
        taken, largest = taken + amount, max(largest, amount)
        assert taken <= most + per_s * now_s + largest + 1e-3


def test_a_larger_limit_gives_what_is_new_and_forgets_nothing_that_was_used() -> None:
    bucket = Bucket(1.0, 10, 0.0)
    bucket.take(8)
    bucket.change(1.0, 20, 0.0)
    assert bucket.left(0.0) == 12
    bucket.change(1.0, 5, 0.0)
    assert bucket.left(0.0) == 0
    assert bucket.wait_s(1, 0.0) == 4


def test_a_guess_that_was_too_high_is_given_back_and_one_too_low_is_owed() -> None:
    one = Meter("This key", Rates(tokens_per_minute=600), 0.0)
    for tokens, left in ((100.0, 500), (300.0, 200), (450.0, 0)):
        metered = enter_all((one,), 200.0, 0.0)
        metered.leave(tokens)
        assert f"remaining-tokens: {left}\r\n".encode() in one.lines(0.0)
    with pytest.raises(RateLimited) as refusal:
        one.enter(10.0, 0.0)
    # It owes 250, and gets ten a second.
    assert refusal.value.retry_after_s == 26


def test_what_one_meter_refuses_counts_on_none() -> None:
    wide, narrow = Meter("a", Rates(concurrent=5), 0.0), Meter("b", Rates(concurrent=1), 0.0)
    enter_all((wide, narrow), 1.0, 0.0)
    with pytest.raises(RateLimited):
        enter_all((wide, narrow), 1.0, 0.0)
    assert (wide.under_way, narrow.under_way) == (1, 1)


def test_many_addresses_do_not_free_a_key_of_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "METERS_MAX", 64)
    kept = Meters(lambda: 0.0)
    rates = Rates(requests_per_s=0.001, requests_burst=1)
    kept.of("key", "This key", rates).came()
    for number in range(1_000):
        kept.of(f"address {number}", "It", rates)
    with pytest.raises(RateLimited):
        kept.of("key", "This key", rates).ask(0.0)
    assert len(kept._meters) <= 64
