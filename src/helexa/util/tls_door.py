"""Where TLS connections stand until their handshake is done: few places, a short time each.

Who says something else than TLS hears so in plain HTTP. Nothing of a connection
reaches the server behind before it is encrypted.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

import anyio
from anyio.abc import TaskGroup

from helexa.util.logs import every

log = logging.getLogger(__name__)

NO_SOCKETS_PAUSE_S: Final = 0.5
SHUTDOWN_S: Final = 2.0
"""For the far side's half of a goodbye."""
PLAIN_WAIT_S: Final = 1.0
"""Between our answer to one who speaks no TLS and the end, so that it is read."""
_HANDSHAKE: Final = 0x16

_seldom: Final = every(10.0)


class TlsDoor:
    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
        *,
        within_s: float,
        places: Callable[[], int],
        plain_answer: bytes,
    ) -> None:
        """`context` is asked for each handshake; `places` how many may be under way now."""
        self._protocol = protocol
        self._context = context
        self._within_s = within_s
        self._places = places
        self._plain_answer = plain_answer
        self.under_way = 0

    async def receive(self, listener: socket.socket) -> None:
        """Take what comes to `listener` until cancelled; then handshakes under way end, too."""
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.wait_readable(listener)
                try:
                    # One a turn of the loop, so that those who are served get on meanwhile.
                    arrived, _ = listener.accept()
                except (BlockingIOError, InterruptedError, ConnectionError):
                    continue  # Gone again before it was taken.
                except OSError as error:
                    if error.errno == errno.EBADF:
                        return
                    if _seldom():
                        log.warning("cannot accept connections: %s", error.strerror or error)
                    await anyio.sleep(NO_SOCKETS_PAUSE_S)
                    continue
                self._begin(arrived, tasks)

    def _begin(self, arrived: socket.socket, tasks: TaskGroup) -> None:
        if self.under_way >= self._places():
            arrived.close()
            return
        arrived.setblocking(False)
        self.under_way += 1
        tasks.start_soon(self._attend, arrived)

    async def _attend(self, arrived: socket.socket) -> None:
        taken = False
        try:
            with anyio.move_on_after(self._within_s):
                await anyio.wait_readable(arrived)
                first = arrived.recv(1, socket.MSG_PEEK)
                if first and first[0] == _HANDSHAKE:
                    taken = True
                    await asyncio.get_running_loop().connect_accepted_socket(
                        self._protocol,
                        arrived,
                        ssl=self._context(),
                        ssl_handshake_timeout=self._within_s,
                        ssl_shutdown_timeout=SHUTDOWN_S,
                    )
                elif first:
                    await self._answer_plain(arrived)
        except OSError:
            pass  # It left, or its TLS is none. Strangers do that all day.
        except Exception:
            log.exception("tls_handshake_fault")
        finally:
            self.under_way -= 1
            if not taken:
                arrived.close()

    async def _answer_plain(self, arrived: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(arrived, self._plain_answer)
        arrived.shutdown(socket.SHUT_WR)
        with anyio.move_on_after(PLAIN_WAIT_S):
            # What it still sends unread would make a reset of our end, and lose the answer.
            while await loop.sock_recv(arrived, 65536):
                pass
