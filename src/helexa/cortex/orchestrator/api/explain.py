"""Where a request would go now, and why not elsewhere; and the policies that can order them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import getdoc
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.api.calls import Asked, Call, Nothing, Wish
from helexa.cortex.orchestrator.explain import Explanation
from helexa.cortex.orchestrator.federation.wish import HEADER, parse
from helexa.protocol.errors import ModelUnknown, RequestRejected
from helexa.protocol.ids import ModelId
from helexa.protocol.routing import RouteHints
from helexa.protocol.work import WorkloadClass


class Explain(Protocol):
    def __call__(self, workload: WorkloadClass, model: ModelId, hints: RouteHints) -> Explanation:
        """Raises ModelUnknown."""
        ...


class Question(Wish, frozen=True, kw_only=True):
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    workload: WorkloadClass = WorkloadClass.CHAT_INTERACTIVE
    session: Annotated[str, Meta(max_length=256)] = ""
    """Requests with the same mark like to meet the same neuron."""


class PolicyRow(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    does: str
    in_force: bool


class PolicyList(msgspec.Struct, frozen=True, kw_only=True):
    in_force: str
    policies: Sequence[PolicyRow]


@dataclass(frozen=True, slots=True)
class ExplainCalls:
    why: Explain
    in_force: Callable[[], str]

    async def explain(self, asked: Asked[Question, Nothing]) -> Explanation:
        wanted = asked.query
        # As the request itself would say it.
        said = asked.request.headers.get(HEADER, "")
        wish = parse(said.encode("latin-1")) if said else None
        hints = RouteHints(session=wanted.session, wish=wish)
        return self.why(wanted.workload, ModelId(wanted.model), hints)

    async def policies(self, asked: Asked[Nothing, Nothing]) -> PolicyList:  # noqa: ARG002
        in_force = self.in_force()
        rows = [
            PolicyRow(name=name, does=_does(name), in_force=name == in_force)
            for name in policies.names()
        ]
        return PolicyList(in_force=in_force, policies=rows)

    def calls(self) -> list[Call]:
        return [
            Call(
                "GET",
                "/api/v1/explain",
                "Where a request would go now, and why not elsewhere.",
                self.explain,
                refuses=(ModelUnknown, RequestRejected),
            ),
            Call("GET", "/api/v1/policies", "Who orders the candidates.", self.policies),
        ]


def _does(name: str) -> str:
    """The first line of its file, which says it."""
    module = sys.modules[type(policies.named(name)).__module__]
    text = getdoc(module) or ""
    return text.partition("\n\n")[0].replace("\n", " ")
