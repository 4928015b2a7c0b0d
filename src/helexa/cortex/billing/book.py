"""What every command does to the ledger, decided in memory: no database, no clock.

    command + what the ledger has of the accounts that it names -> lines to write, or a refusal

The writer reads those accounts, gives them to a `Book`, and writes what came of many commands in
one transaction; so the rules of money are here, once, for every database and for the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

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
from helexa.cortex.billing.money import AMOUNT_MAX

OVERRUN: Final = "loss:over-hold"
"""What was charged beyond a hold, which had to be the most that it can come to: nobody's fault but
ours, so nobody else pays it."""
RETURNED: Final = "grants"
"""Where grants come from, and what is left of them goes."""


class Refused(Exception):
    """Nothing was written; `code` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Account:
    """One of the ledger's accounts."""

    posted: int = 0
    """The sum of its entries."""
    held: int = 0
    """The sum of its open holds; of wallets alone."""
    overdraft: int = 0
    """How far below 0 it may go."""
    is_guarded: bool = False
    """Whether it may not go below 0 by what is asked of it: whatever is owed to somebody."""


@dataclass
class Grant:
    """Credits that were given, and are spent before a wallet's own; those that end first, first."""

    account: str
    wallet: str
    expires_at: int


@dataclass
class Cap:
    limit: int
    spent: int = 0
    held: int = 0


@dataclass
class OpenHold:
    hold: Hold
    is_open: bool = True


@dataclass(frozen=True)
class Transaction:
    """To be written, as it is, once."""

    key: str
    kind: str
    at: int
    entries: tuple[Entry, ...]
    reverses: str = ""


@dataclass
class Book:
    """The part of a ledger that some commands name, and what they did to it."""

    accounts: dict[str, Account] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    caps: dict[str, Cap] = field(default_factory=dict)
    holds: dict[str, OpenHold] = field(default_factory=dict)
    written: dict[str, Transaction] = field(default_factory=dict)
    """Transactions by key: those that commands name, and all that they made."""
    reversed: dict[str, str] = field(default_factory=dict)
    """Keys of transactions, by what they reverse."""

    def apply(self, command: Command) -> Transaction | None:
        """What is to be written for it; None where it is only a hold, or was done before.

        Raises Refused, and has changed nothing then.
        """
        match command:
            case Hold():
                self._hold(command)
                return None
            case Settle():
                return self._settle(command)
            case Post():
                return self._post(command)
            case Reverse():
                return self._reverse(command)
            case Expire():
                return self._expire(command)

    def available(self, wallet: str, at: int) -> int:
        """What its owner can spend now."""
        account = self.accounts[wallet]
        granted = sum(self.accounts[one.account].posted for one in self._granted(wallet, at))
        return account.posted + granted + account.overdraft - account.held

    # --- commands

    def _hold(self, hold: Hold) -> None:
        known = self.holds.get(hold.key)
        if known is not None:
            if known.hold != hold:
                raise Refused("key_reused", f"{hold.key!r} is the key of another hold.")
            return
        if not 0 <= hold.amount <= AMOUNT_MAX:
            raise Refused("amount_out_of_range", f"A hold of {hold.amount} cannot be.")
        if self.available(hold.wallet, hold.at) < hold.amount:
            raise Refused("insufficient_credits", "There is not enough credit for this request.")
        for name in hold.caps:
            cap = self.caps[name]
            if cap.limit - cap.spent - cap.held < hold.amount:
                raise Refused("spend_cap_reached", "A limit on what may be spent is reached.")
        self.accounts[hold.wallet].held += hold.amount
        for name in hold.caps:
            self.caps[name].held += hold.amount
        self.holds[hold.key] = OpenHold(hold)

    def _settle(self, settle: Settle) -> Transaction | None:
        known = self.holds.get(settle.key)
        if known is None:
            raise Refused("hold_unknown", f"There is no hold {settle.key!r}.")
        if not known.is_open:
            return None
        hold = known.hold
        if any(line.amount <= 0 for one in settle.charges for line in one.entries):
            raise Refused("amount_out_of_range", "A charge has a line that is not above 0.")
        known.is_open = False
        total = sum(one.amount for one in settle.charges)
        paid = min(total, hold.amount)
        self.accounts[hold.wallet].held -= hold.amount
        for name in hold.caps:
            cap = self.caps[name]
            cap.held -= hold.amount
            cap.spent += paid
        if not total:
            return None
        entries = [*self._paid(hold.wallet, paid, hold.at), *_earned(settle.charges)]
        if total > paid:
            entries.append(Entry(OVERRUN, paid - total))
        return self._write(Transaction(settle.key, settle.kind, settle.at, tuple(entries)))

    def _post(self, post: Post) -> Transaction | None:
        transaction = Transaction(post.key, post.kind, post.at, post.entries)
        if self._is_known(transaction):
            return None
        if sum(one.amount for one in post.entries) or not post.entries:
            raise Refused("not_balanced", "The lines of a transaction come to 0.")
        change: dict[str, int] = {}
        for one in post.entries:
            if not one.amount or abs(one.amount) > AMOUNT_MAX:
                raise Refused("amount_out_of_range", f"A line of {one.amount} cannot be.")
            change[one.account] = change.get(one.account, 0) + one.amount
        for name, amount in change.items():
            account = self.accounts[name]
            left = account.posted + amount - account.held + account.overdraft
            if account.is_guarded and amount < 0 and left < 0:
                raise Refused("insufficient_credits", f"{name!r} does not have so much.")
        return self._write(transaction)

    def _reverse(self, reverse: Reverse) -> Transaction | None:
        origin = self.written.get(reverse.of)
        if origin is None:
            raise Refused("transaction_unknown", f"There is no transaction {reverse.of!r}.")
        entries = tuple(Entry(one.account, -one.amount) for one in origin.entries)
        transaction = Transaction(reverse.key, reverse.kind, reverse.at, entries, reverse.of)
        if self._is_known(transaction):
            return None
        if reverse.of in self.reversed or origin.reverses:
            raise Refused("reversed_before", f"{reverse.of!r} was reversed, or reverses another.")
        self.reversed[reverse.of] = reverse.key
        return self._write(transaction)

    def _expire(self, expire: Expire) -> Transaction | None:
        if expire.key in self.written:
            return None
        grant = next((one for one in self.grants if one.account == expire.grant), None)
        if grant is None or grant.wallet != expire.wallet or grant.expires_at > expire.at:
            raise Refused("grant_unknown", f"There is no grant {expire.grant!r} that is over.")
        wallet = self.accounts[expire.wallet]
        # What a request holds was there when it began, and is its to spend.
        others = self.available(expire.wallet, expire.at) + wallet.held - wallet.overdraft
        needed = min(max(wallet.held - others, 0), wallet.held)
        left = self.accounts[expire.grant].posted - needed
        if left <= 0:
            raise Refused("nothing_left", f"All of {expire.grant!r} is spent, or held.")
        entries = (Entry(expire.grant, -left), Entry(RETURNED, left))
        return self._write(Transaction(expire.key, "expire", expire.at, entries))

    # --- parts of them

    def _granted(self, wallet: str, at: int) -> Iterator[Grant]:
        """Those that can be spent, in the order in which they are."""
        found = [one for one in self.grants if one.wallet == wallet and one.expires_at > at]
        return iter(sorted(found, key=lambda one: (one.expires_at, one.account)))

    def _paid(self, wallet: str, amount: int, at: int) -> Iterator[Entry]:
        """Where a charge is taken from; `at` is when its hold began, which decides of grants."""
        for grant in self._granted(wallet, at):
            part = min(self.accounts[grant.account].posted, amount)
            if part > 0:
                amount -= part
                yield Entry(grant.account, -part)
        if amount:
            yield Entry(wallet, -amount)

    def _is_known(self, transaction: Transaction) -> bool:
        known = self.written.get(transaction.key)
        if known is None:
            return False
        same = (known.kind, known.entries, known.reverses)
        if same != (transaction.kind, transaction.entries, transaction.reverses):
            raise Refused("key_reused", f"{transaction.key!r} is the key of another transaction.")
        return True

    def _write(self, transaction: Transaction) -> Transaction:
        for one in transaction.entries:
            self.accounts[one.account].posted += one.amount
        self.written[transaction.key] = transaction
        return transaction


def _earned(charges: tuple[Charge, ...]) -> list[Entry]:
    """Who gets what of all attempts, a line for each."""
    found: dict[str, int] = {}
    for charge in charges:
        for one in charge.entries:
            found[one.account] = found.get(one.account, 0) + one.amount
    return [Entry(name, amount) for name, amount in found.items()]
