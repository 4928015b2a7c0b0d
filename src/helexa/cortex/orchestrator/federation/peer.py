"""One other cortex as this one sees it: who it is, what it offers, whether it can be reached.

Data and what follows from it. `peers.Peers` is the one that writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from helexa.cortex.orchestrator.federation.offers import is_sound
from helexa.mesh.sessions.session import Session
from helexa.mesh.trust import Standing, Trust
from helexa.protocol.errors import RequestRejected
from helexa.protocol.ids import ModelId, is_model_id
from helexa.protocol.messages import ReportOffers, Withheld
from helexa.protocol.records import OFFERS_PER_RECORD_MAX, Offer
from helexa.protocol.work import WorkloadClass

WITHHELD_MAX: Final = 64
REASON_CHARS_MAX: Final = 200
NAME_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Told:
    """What it said to this one reader."""

    offers: Mapping[ModelId, Offer]
    withheld: Sequence[Withheld]

    def names(self) -> Iterator[ModelId]:
        yield from self.offers
        for row in self.withheld:
            yield from row.models

    def rule(self, model: ModelId, workload: WorkloadClass) -> str:
        """The rule of its that keeps this model back for this work; empty when none does."""
        for row in self.withheld:
            if (not row.models or model in row.models) and (
                not row.classes or workload in row.classes
            ):
                return row.reason
        return ""


@dataclass(eq=False, slots=True)
class Peer:
    """Sessions oldest first. `since_s` and `reason` are about the last time that it was lost."""

    standing: Standing
    sessions: list[Session] = field(default_factory=list)
    recorded: Mapping[ModelId, Offer] = field(default_factory=dict)
    sequence: int = -1
    """Of its record; -1 when membership knows of none."""
    told: Told | None = None
    goodbye: str = ""
    since_s: float | None = None
    reason: str = ""
    failures: int = 0
    retry_at_s: float = 0.0
    is_unheard: bool = False
    """Its last link broke, or none could be made, and it has said nothing since."""
    indexed: tuple[Trust, frozenset[ModelId]] = (Trust.DENIED, frozenset())

    @property
    def called(self) -> str:
        """A name for people: the peer's own, where it has a printable one."""
        name = self.standing.name
        if name and len(name) <= NAME_CHARS_MAX and name.isascii() and name.isprintable():
            return name
        return self.standing.node[:10]

    @property
    def session(self) -> Session | None:
        """The newest that lives."""
        for session in reversed(self.sessions):
            if session.ended is None:
                return session
        return None

    @property
    def is_recorded(self) -> bool:
        return self.sequence >= 0

    @property
    def is_gone(self) -> bool:
        return self.session is None and not self.is_recorded

    def offer(self, model: ModelId) -> Offer | None:
        """What it said to this one reader stands above what its record says to all."""
        return (self.recorded if self.told is None else self.told.offers).get(model)

    def names(self) -> frozenset[ModelId]:
        """Every model that a request could be told about."""
        told = () if self.told is None else self.told.names()
        return frozenset((*self.recorded, *told))

    def why_not(self, model: ModelId, workload: WorkloadClass) -> str:
        """Why it would not serve this by its own words; empty where it offers it."""
        if self.told is not None and (rule := self.told.rule(model, workload)):
            return rule
        return "" if self.offer(model) is not None else "does not offer this model any more"

    def why_unreachable(self, now_s: float, *, connects: bool) -> str:
        """`connects`: whether a session could be made on demand."""
        if self.session is not None:
            return ""
        if self.is_recorded and connects and now_s >= self.retry_at_s:
            return ""
        if self.since_s is None:
            return "has no link to this cortex"
        return f"is gone for {max(now_s - self.since_s, 0.0):.0f} s: {self.reason}"


def by_model(offers: Sequence[Offer]) -> Mapping[ModelId, Offer]:
    """The sound ones, at most as many as a record may have."""
    return {one.model: one for one in offers[:OFFERS_PER_RECORD_MAX] if is_sound(one)}


def told_by(report: ReportOffers) -> Told:
    """Raises RequestRejected for more than a cortex can mean."""
    names = sum(len(row.models) for row in report.withheld)
    if (
        len(report.offers) > OFFERS_PER_RECORD_MAX
        or len(report.withheld) > WITHHELD_MAX
        or names > OFFERS_PER_RECORD_MAX * len(WorkloadClass)
    ):
        raise RequestRejected(
            f"A cortex offers at most {OFFERS_PER_RECORD_MAX} models, by {WITHHELD_MAX} rules."
        )
    withheld = tuple(
        Withheld(
            reason=_one_line(row.reason),
            models=tuple(model for model in row.models if is_model_id(model)),
            classes=row.classes,
        )
        for row in report.withheld
    )
    # Rows whose models were all nonsense would read as "all models".
    kept = tuple(
        new
        for new, row in zip(withheld, report.withheld, strict=True)
        if bool(new.models) == bool(row.models)
    )
    return Told(by_model(report.offers), kept)


def _one_line(text: str) -> str:
    # A stranger's words, on their way to clients and logs.
    words = "".join(one if one.isprintable() else " " for one in text[:REASON_CHARS_MAX])
    return words.strip() or "keeps it back"
