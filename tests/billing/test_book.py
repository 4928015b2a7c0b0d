"""The rules of money against a journal that is added up anew after every step."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from helexa.cortex.billing.book import OVERRUN, RETURNED, Account, Book, Cap, Grant, Refused
from helexa.cortex.billing.commands import (
    Charge,
    Command,
    Entry,
    Expire,
    Hold,
    Post,
    Reverse,
    Settle,
)

WALLETS = ("wallet:a", "wallet:b")
CAPS = {"key:1": 60, "key:2": 1_000_000}
EARNED = ("earned:o", "fees")
AMOUNTS = st.integers(1, 100)


def book(*, overdraft: int = 0) -> Book:
    accounts = {name: Account(is_guarded=True, overdraft=overdraft) for name in WALLETS}
    accounts |= {name: Account(is_guarded=True) for name in EARNED}
    accounts |= {name: Account() for name in ("cash", RETURNED, OVERRUN)}
    return Book(accounts, caps={name: Cap(limit) for name, limit in CAPS.items()})


class Money(RuleBasedStateMachine):
    """Top-ups, grants, holds, their ends, payouts, reversals, in any order, any of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.book = book()
        self.now = 0
        self.count = 0
        self.done: list[Command] = []
        self.holds: dict[str, Hold] = {}
        self.ended: dict[str, int] = {}
        """What each settled hold was charged."""
        self.went_back = False

    def key(self) -> str:
        self.count += 1
        return f"k{self.count}"

    def apply(self, command: Command) -> bool:
        """Whether it was taken; what is refused has changed nothing."""
        before = repr(self.book)
        try:
            self.book.apply(command)
        except Refused:
            assert repr(self.book) == before
            return False
        self.done.append(command)
        return True

    def journal(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for one in self.book.written.values():
            for entry in one.entries:
                found[entry.account] += entry.amount
        return found

    def open_holds(self) -> list[Hold]:
        return [one for key, one in self.holds.items() if key not in self.ended]

    def spendable(self, wallet: str) -> int:
        """By the journal and the list of holds alone."""
        sums = self.journal()
        granted = sum(
            sums[one.account]
            for one in self.book.grants
            if one.wallet == wallet and one.expires_at > self.now
        )
        held = sum(one.amount for one in self.open_holds() if one.wallet == wallet)
        return sums[wallet] + granted - held

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(wallet=st.sampled_from(WALLETS), amount=AMOUNTS)
    def top_up(self, wallet: str, amount: int) -> None:
        entries = (Entry("cash", -amount), Entry(wallet, amount))
        assert self.apply(Post(key=self.key(), kind="top-up", at=self.now, entries=entries))

    @rule(wallet=st.sampled_from(WALLETS), amount=AMOUNTS, lasts=st.integers(1, 10))
    def grant(self, wallet: str, amount: int, lasts: int) -> None:
        account = f"grant:{self.key()}"
        self.book.accounts[account] = Account(is_guarded=True)
        self.book.grants.append(Grant(account, wallet, self.now + lasts))
        entries = (Entry(RETURNED, -amount), Entry(account, amount))
        assert self.apply(Post(key=self.key(), kind="grant", at=self.now, entries=entries))

    @rule(
        wallet=st.sampled_from(WALLETS),
        amount=AMOUNTS,
        caps=st.lists(st.sampled_from(sorted(CAPS)), unique=True),
    )
    def hold(self, wallet: str, amount: int, caps: list[str]) -> None:
        used: Counter[str] = Counter()
        for key, one in self.holds.items():
            for name in one.caps:
                used[name] += min(self.ended.get(key, one.amount), one.amount)
        fits = self.spendable(wallet) >= amount
        fits = fits and all(CAPS[name] - used[name] >= amount for name in caps)
        one = Hold(
            key=self.key(),
            at=self.now,
            wallet=wallet,
            amount=amount,
            expires_at=self.now + 9,
            caps=tuple(caps),
        )
        assert self.apply(one) == fits
        if fits:
            self.holds[one.key] = one

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), amounts=st.lists(st.integers(1, 60), max_size=3))
    def settle(self, data: st.DataObject, amounts: list[int]) -> None:
        key = data.draw(st.sampled_from(sorted(self.holds)))
        charges = tuple(
            Charge(f"{key}/{at}", (Entry(EARNED[at % 2], amount),))
            for at, amount in enumerate(amounts)
        )
        before = self.journal()
        assert self.apply(Settle(key=key, kind="usage", at=self.now, charges=charges))
        if key in self.ended:
            assert self.journal() == before, "a hold ends once"
            return
        self.ended[key] = sum(amounts)
        paid = min(sum(amounts), self.holds[key].amount)
        after = self.journal()
        from_funds = sum(
            before[name] - after[name]
            for name in {*before, *after}
            if name in WALLETS or name.startswith("grant:")
        )
        assert from_funds == paid, "a consumer pays what was charged, and never above the hold"
        assert sum(after[name] - before[name] for name in EARNED) == sum(amounts)

    @rule(account=st.sampled_from(EARNED), amount=AMOUNTS)
    def pay_out(self, account: str, amount: int) -> None:
        entries = (Entry(account, -amount), Entry("cash", amount))
        fits = self.journal()[account] >= amount
        assert self.apply(Post(key=self.key(), kind="payout", at=self.now, entries=entries)) == fits

    @precondition(lambda self: self.book.written)
    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        of = data.draw(st.sampled_from(sorted(self.book.written)))
        fits = of not in self.book.reversed and not self.book.written[of].reverses
        assert self.apply(Reverse(key=self.key(), kind="refund", at=self.now, of=of)) == fits
        self.went_back = self.went_back or fits

    @precondition(lambda self: self.book.grants)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.book.grants))
        command = Expire(key=self.key(), at=self.now, wallet=one.wallet, grant=one.account)
        spendable, left = self.spendable(one.wallet), self.journal()[one.account]
        taken = self.apply(command)
        assert self.spendable(one.wallet) == spendable
        if one.expires_at > self.now or left <= 0:
            assert not taken
        elif not any(each.wallet == one.wallet for each in self.open_holds()):
            assert taken
            assert not self.journal()[one.account]

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        command = data.draw(st.sampled_from(self.done))
        before = repr(self.book)
        with contextlib.suppress(Refused):
            self.book.apply(command)
        assert repr(self.book) == before

    @invariant()
    def it_adds_up(self) -> None:
        sums = self.journal()
        assert not sum(sums.values())
        assert all(not sum(e.amount for e in t.entries) for t in self.book.written.values())
        for name, account in self.book.accounts.items():
            assert account.posted == sums[name]
            held = sum(one.amount for one in self.open_holds() if one.wallet == name)
            assert account.held == held
            if account.is_guarded and not self.went_back:
                assert account.posted >= 0, name
        for name, cap in self.book.caps.items():
            assert cap.held == sum(one.amount for one in self.open_holds() if name in one.caps)
            assert cap.spent + cap.held <= cap.limit


TestMoney = Money.TestCase


def test_of_many_holds_as_many_are_taken_as_there_is_room_for() -> None:
    one = book()
    one.apply(
        Post(key="t", kind="top-up", at=0, entries=(Entry("cash", -100), Entry("wallet:a", 100)))
    )
    taken = 0
    for number in range(50):
        with contextlib.suppress(Refused):
            one.apply(Hold(key=f"h{number}", at=0, wallet="wallet:a", amount=30, expires_at=60))
            taken += 1
    assert taken == 3


def test_what_ends_first_is_spent_first_and_before_the_wallets_own() -> None:
    one = book()
    for name, ends in (("grant:late", 90), ("grant:soon", 20)):
        one.accounts[name] = Account(is_guarded=True)
        one.grants.append(Grant(name, "wallet:a", ends))
        one.apply(Post(key=name, kind="grant", at=0, entries=(Entry(RETURNED, -5), Entry(name, 5))))
    one.apply(Post(key="t", kind="top-up", at=0, entries=(Entry("cash", -9), Entry("wallet:a", 9))))
    one.apply(Hold(key="h", at=1, wallet="wallet:a", amount=12, expires_at=60))
    charge = Charge("h/0", (Entry("earned:o", 9), Entry("fees", 2)))
    written = one.apply(Settle(key="h", kind="usage", at=30, charges=(charge,)))
    assert written is not None
    assert written.entries == (
        Entry("grant:soon", -5),
        Entry("grant:late", -5),
        Entry("wallet:a", -1),
        Entry("earned:o", 9),
        Entry("fees", 2),
    )


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ((Entry("cash", -1),), "not_balanced"),
        ((), "not_balanced"),
        ((Entry("cash", 0), Entry("fees", 0)), "amount_out_of_range"),
        ((Entry("wallet:a", -1), Entry("cash", 1)), "insufficient_credits"),
    ],
)
def test_what_is_no_transaction(entries: tuple[Entry, ...], code: str) -> None:
    with pytest.raises(Refused) as refused:
        book().apply(Post(key="x", kind="x", at=0, entries=entries))
    assert refused.value.code == code


def test_a_key_stands_for_one_thing() -> None:
    one = book()
    first = Post(key="x", kind="x", at=0, entries=(Entry("cash", -1), Entry("wallet:a", 1)))
    assert one.apply(first) is not None
    assert one.apply(first) is None
    for entries in ((Entry("cash", -2), Entry("wallet:a", 2)),):
        with pytest.raises(Refused, match="key of another"):
            one.apply(Post(key="x", kind="x", at=0, entries=entries))
