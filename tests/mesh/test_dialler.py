"""One link out of several transports: the first in order that answers, another when it died."""

from __future__ import annotations

import anyio
import pytest

from helexa.mesh.dialler import Dialler
from helexa.mesh.identity import NodeKey
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import DialFailed

pytestmark = pytest.mark.anyio
PEER = NodeKey.generate().node_id
TICKET = Ticket(node=PEER, addresses={"slow": ("b:2",), "quick": ("a:1",), "unknown": ("c:3",)})


class Road:
    """A transport whose dials wait for `gate` and end as they are told."""

    def __init__(self, *, opens=True, reason="refused"):
        self.gate = anyio.Event()
        self.began = anyio.Event()
        self.opens, self.reason = opens, reason
        self.dials = 0
        self.closed = []
        self.cancelled = 0

    async def dial(self, peer, addresses, *, timeout_s):
        self.dials += 1
        self.began.set()
        try:
            await self.gate.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        if not self.opens:
            raise DialFailed(self.reason)
        return self

    async def close(self, code=0, reason=""):
        self.closed.append(reason)


def dialler(head_start_s=30.0, **roads):
    return Dialler(roads, head_start_s=head_start_s)


async def test_the_first_in_this_nodes_order_wins_and_the_others_are_not_asked():
    quick, slow = Road(), Road()
    quick.gate.set()
    assert await dialler(quick=quick, slow=slow).dial(TICKET, timeout_s=1) == ("quick", quick)
    assert slow.dials == 0


async def test_a_silent_path_gives_way_after_its_head_start():
    quick, slow = Road(), Road()
    slow.gate.set()
    found = await dialler(head_start_s=0.0, quick=quick, slow=slow).dial(TICKET, timeout_s=1)
    assert found == ("slow", slow)
    assert quick.cancelled == 1


async def test_a_refused_path_gives_way_at_once():
    quick, slow = Road(opens=False), Road()
    quick.gate.set()
    slow.gate.set()
    assert (await dialler(quick=quick, slow=slow).dial(TICKET, timeout_s=1))[0] == "slow"


async def test_a_path_that_died_is_tried_last_for_a_while():
    quick, slow = Road(), Road()
    quick.gate.set()
    slow.gate.set()
    paths = dialler(quick=quick, slow=slow)
    paths.distrust(PEER, "quick")
    assert (await paths.dial(TICKET, timeout_s=1))[0] == "slow"
    other = Ticket(node=NodeKey.generate().node_id, addresses=TICKET.addresses)
    assert (await paths.dial(other, timeout_s=1))[0] == "quick"


async def test_when_no_path_works_every_reason_is_told():
    quick, slow = Road(opens=False, reason="no answer"), Road(opens=False)
    quick.gate.set()
    slow.gate.set()
    with pytest.raises(DialFailed, match="quick: no answer; slow: refused"):
        await dialler(quick=quick, slow=slow).dial(TICKET, timeout_s=1)


async def test_a_ticket_without_a_common_transport_names_both_sides():
    with pytest.raises(
        DialFailed, match="offers the transports slow, quick, unknown; open here: x"
    ):
        await dialler(x=Road()).dial(TICKET, timeout_s=1)
