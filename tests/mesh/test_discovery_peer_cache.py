"""Remembered peers: on a real disk, bounded, and never a reason not to start."""

from __future__ import annotations

import json
import random

import anyio
import pytest

from helexa.mesh.discovery.peer_cache import FILE_BYTES_MAX, PEERS_MAX, PeerCache
from helexa.mesh.ticket import Ticket

pytestmark = pytest.mark.anyio


def ticket(number, **options):
    return Ticket(
        **{"node": f"{number:064x}", "addresses": {"tls": (f"10.0.0.1:{number + 1}",)}, **options}
    )


def recent_first():
    return 0.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "peers.json"


async def test_a_restarted_node_knows_whom_it_met(path):
    async with PeerCache(path).running() as cache:
        cache.remember(ticket(1), 100)
        cache.remember(ticket(2), 200)
    assert PeerCache(path).best(9, recent_first) == [ticket(2), ticket(1)]
    assert [each.name for each in path.parent.iterdir()] == ["peers.json"]


async def test_what_changed_is_saved_while_the_node_runs(path):
    """So that a killed one knows them, too."""
    async with PeerCache(path).running(save_every_s=0.01) as cache:
        cache.remember(ticket(1), 100)
        with anyio.fail_after(10):
            while not path.exists():  # noqa: ASYNC110  # A file has no event.
                await anyio.sleep(0.01)
        assert len(PeerCache(path)) == 1


async def test_nothing_is_written_where_nothing_changed(path):
    async with PeerCache(path).running():
        pass
    assert not path.parent.exists()


def test_an_address_replaces_the_old_one_and_an_invite_is_not_kept(path):
    cache = PeerCache(path)
    cache.remember(ticket(1, addresses={"tls": ("10.0.0.9:1",)}), 100)
    cache.remember(ticket(1, invite=b"secret"), 200)
    cache.remember(ticket(1, addresses={}), 300)
    cache.save()
    assert PeerCache(path).best(9, recent_first) == [ticket(1)]
    assert str(ticket(1, invite=b"secret")) not in path.read_text()


def test_who_is_forgotten_is_gone_from_the_file(path):
    cache = PeerCache(path)
    cache.remember(ticket(1), 100)
    cache.save()
    cache.forget(ticket(1).node)
    cache.forget(ticket(2).node)
    cache.save()
    assert len(PeerCache(path)) == 0


def test_the_longest_unseen_make_room(path):
    cache = PeerCache(path)
    for number in range(PEERS_MAX + 50):
        cache.remember(ticket(number), 1_000 - number if number < 50 else 1_000 + number)
    assert len(cache) == PEERS_MAX
    cache.save()
    best = PeerCache(path).best(PEERS_MAX, recent_first)
    assert {each.node for each in best} == {ticket(n).node for n in range(50, PEERS_MAX + 50)}
    assert best[0] == ticket(PEERS_MAX + 49)


def test_the_best_are_recent_ones_mixed_with_others(path):
    cache = PeerCache(path)
    for number in range(100):
        cache.remember(ticket(number), number)
    best = cache.best(8, random.Random(7).random)
    assert len(best) == len({each.node for each in best}) == 8
    assert best[0] == ticket(99)
    recent = {ticket(number).node for number in range(92, 100)}
    assert 4 <= sum(each.node in recent for each in best) < 8


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"version": 1}',
        b'{"version": 2, "peers": []}',
        b'{"version": 1, "peers": [{"ticket": 5, "seen_s": 1}]}',
        b"[" * 100_000,
        b" " * (FILE_BYTES_MAX + 1),
    ],
)
def test_a_damaged_file_is_set_aside_and_the_node_starts(path, content, caplog):
    path.parent.mkdir()
    path.write_bytes(content)
    cache = PeerCache(path)
    assert len(cache) == 0
    assert path.with_name("peers.json.damaged").read_bytes() == content
    assert "remembered peers cannot be read" in caplog.text
    cache.remember(ticket(1), 1)
    cache.save()
    assert len(PeerCache(path)) == 1


def test_one_bad_ticket_does_not_cost_the_others(path):
    path.parent.mkdir()
    peers = [{"ticket": "helexabroken", "seen_s": 1}, {"ticket": str(ticket(1)), "seen_s": 2}]
    path.write_text(json.dumps({"version": 1, "peers": peers}))
    assert PeerCache(path).best(9, recent_first) == [ticket(1)]


def test_a_file_of_too_many_is_cut_to_the_bound(path):
    path.parent.mkdir()
    peers = [{"ticket": str(ticket(n)), "seen_s": n} for n in range(PEERS_MAX + 9)]
    path.write_text(json.dumps({"version": 1, "peers": peers}))
    assert len(PeerCache(path)) == PEERS_MAX


def test_a_disk_that_refuses_is_a_log_line(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    cache = PeerCache(tmp_path / "file" / "peers.json")
    cache.remember(ticket(1), 1)
    cache.save()
    assert "peers are not remembered" in caplog.text
