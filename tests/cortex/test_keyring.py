"""Keys that are opened when somebody first needs them."""

from __future__ import annotations

import anyio
import pytest

from helexa.cortex.accounts.keyring import keyring
from helexa.cortex.accounts.keys import open_keys
from helexa.cortex.store.engine import FILE_NAME, StoreUnusable
from helexa.protocol.errors import KeyInvalid

pytestmark = pytest.mark.anyio


async def test_no_database_is_made_before_somebody_asks_for_keys(tmp_path):
    with keyring(tmp_path) as ring:
        assert not (tmp_path / FILE_NAME).exists()
        await ring.opened()
        assert (tmp_path / FILE_NAME).exists()


async def test_all_who_ask_at_once_get_the_same_keys(tmp_path):
    found = []

    async def ask(ring):
        found.append(await ring.opened())

    with keyring(tmp_path) as ring:
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(ask, ring)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


async def test_a_key_made_elsewhere_before_the_opening_is_known_after_it(tmp_path):
    with keyring(tmp_path) as ring:
        with open_keys(tmp_path) as command:
            made = command.create("early")
        keys = await ring.opened()
        assert keys.check(made.secret).key_id == made.key.id
        with pytest.raises(KeyInvalid):
            keys.check(made.secret + "x")


async def test_a_database_that_cannot_be_used_is_told_to_each_who_asks(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"no database, but long enough to be looked at" * 40)
    with keyring(tmp_path) as ring:
        for _ in range(2):
            with pytest.raises(StoreUnusable, match=FILE_NAME):
                await ring.opened()
