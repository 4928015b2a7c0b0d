"""The control API as one ASGI application: every call there is, for the parts that there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from starlette.routing import Route

import helexa
from helexa.cortex.orchestrator.api import document
from helexa.cortex.orchestrator.api import status as status_calls
from helexa.cortex.orchestrator.api.calls import Call
from helexa.cortex.orchestrator.api.catalogue import CatalogueCalls
from helexa.cortex.orchestrator.api.door import Door
from helexa.cortex.orchestrator.api.explain import Explain, ExplainCalls
from helexa.cortex.orchestrator.api.keys import KeyCalls
from helexa.cortex.orchestrator.api.mesh import MeshCalls
from helexa.cortex.orchestrator.api.models import ModelCalls
from helexa.cortex.orchestrator.api.nodes import NodeCalls
from helexa.cortex.orchestrator.api.observe import ObserveCalls
from helexa.cortex.orchestrator.api.pulls import PullCalls
from helexa.cortex.orchestrator.api.routing import Routes
from helexa.cortex.orchestrator.api.signature import Signatures
from helexa.cortex.orchestrator.api.status import Status
from helexa.cortex.orchestrator.book import Book
from helexa.cortex.orchestrator.catalogue import Catalogue
from helexa.cortex.orchestrator.marks import Marks
from helexa.cortex.orchestrator.mesh_control import MeshControl
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.observe import Log
from helexa.cortex.orchestrator.sharing import Sharing

if TYPE_CHECKING:
    # For the type alone: the keys bring the database, see `helexa.cortex.accounts.keyring`.
    from helexa.cortex.accounts.keys import Keys


def application(
    *,
    admin_token: str,
    neurons: Neurons,
    keys: Callable[[], Awaitable[Keys]],
    status: Status,
    health: Sequence[Route] = (),
    explain: Explain | None = None,
    marks: Marks | None = None,
    mesh: MeshControl | None = None,
    log: Log | None = None,
    sharing: Sharing | None = None,
    book: Book | None = None,
    signatures: Signatures | None = None,
    version: str = helexa.__version__,
) -> Routes:
    """The ASGI application. `health` are the routes that every socket has, open to all.

    `keys` opens the database when first awaited. Where a part is None its paths are unknown:
    without `explain` the neurons alone are asked, without `sharing` nobody gives
    pieces, and without `signatures` only the token is taken.
    """

    def catalogue() -> Catalogue:
        return neurons.catalogue

    tables: Iterable[Sequence[Call]] = (
        status_calls.calls(status),
        ModelCalls(neurons, catalogue).calls(),
        PullCalls(neurons, catalogue, sharing).calls(),
        CatalogueCalls(book, neurons).calls() if book is not None else (),
        NodeCalls(neurons, marks).calls(),
        ExplainCalls(explain or neurons.explained, lambda: neurons.policy.name).calls(),
        KeyCalls(keys).calls(),
        MeshCalls(mesh).calls() if mesh is not None else (),
        ObserveCalls(log, neurons, catalogue).calls() if log is not None else (),
        status_calls.health(health),
    )
    calls = [call for table in tables for call in table]
    return Routes([*calls, document.call_for(calls, version)], Door(admin_token, signatures))
