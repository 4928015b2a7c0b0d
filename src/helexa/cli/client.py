"""How a verb talks to a running node: its control API, found through the node's own folder.

A node that runs leaves `run.json` (where it listens) and a token file in its folder;
`--url` and `--token` say the same for a node elsewhere. The standard library's client is
enough here and starts fast.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, urlsplit

from helexa.cli.verb import Failed

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
ANSWER_WITHIN_S: Final = 10.0
LOAD_WITHIN_S: Final = 1_900.0
"""A little longer than a cortex gives a neuron to load a model: its reason beats ours."""

URL_FIELD: Final = {"cortex": "orchestrator_url", "neuron": "api_url"}
TOKEN_FILE: Final = {"cortex": "admin.token", "neuron": "api.token"}


class Unreachable(Failed):
    """Nothing answers there."""


class Refused(Failed):
    """The node answered no. `status` and `code` are its own."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Client:
    url: str
    token: str
    certificate: Path | None = None
    """The one that a server on this machine has, whatever host it names."""

    def get(self, path: str, headers: Mapping[str, str] = MappingProxyType({})) -> Any:
        connection = self._connection(ANSWER_WITHIN_S)
        return self._decoded(*self._exchanged(connection, "GET", path, None, headers))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self.ask("POST", path, body or {}, within_s=LOAD_WITHIN_S)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.ask("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self.ask("DELETE", path)

    def probe(self, path: str) -> int:
        """The status alone, whatever the body is. Raises Unreachable."""
        return self._exchange("GET", path, None, ANSWER_WITHIN_S)[0]

    def lines(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """POST, and the JSON lines of the answer as they come. Raises Unreachable or Refused."""
        connection = self._connection(LOAD_WITHIN_S)
        try:
            response = self._request(connection, "POST", path, body)
            if response.status >= 300:
                self._decoded(response.status, response.read(ANSWER_BYTES_MAX))
            while line := response.readline(ANSWER_BYTES_MAX):
                said = self._decoded(200, line)
                if isinstance(error := said.get("error"), dict):
                    raise Refused(200, str(error.get("code")), str(error.get("message")))
                yield said
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error
        finally:
            connection.close()

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        within_s: float = ANSWER_WITHIN_S,
    ) -> Any:
        """The decoded answer. Raises Unreachable or Refused."""
        return self._decoded(*self._exchange(method, path, body, within_s))

    def _decoded(self, status: int, raw: bytes) -> Any:
        try:
            answer = json.loads(raw) if raw else {}
        except ValueError:
            raise Failed(f"{self.url} answered {status} with something that is not JSON") from None
        if status < 300:
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(error, dict):
            raise Refused(status, "", f"{self.url} answered {status}")
        raise Refused(status, str(error.get("code")), str(error.get("message")))

    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, within_s: float
    ) -> tuple[int, bytes]:
        return self._exchanged(self._connection(within_s), method, path, body, {})

    def _exchanged(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        more: Mapping[str, str],
    ) -> tuple[int, bytes]:
        try:
            response = self._request(connection, method, path, body, more)
            return response.status, response.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error
        finally:
            connection.close()

    def _request(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> http.client.HTTPResponse:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= more
        if body is not None:
            headers["content-type"] = "application/json"
        payload = None if body is None else json.dumps(body).encode()
        connection.request(method, path, payload, headers)
        return connection.getresponse()

    def _silent(self, error: Exception) -> Unreachable:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(f"{self.url} does not answer: {reason}")

    def _connection(self, within_s: float) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        try:
            port, usable = parts.port, parts.scheme in ("http", "https") and parts.hostname
        except ValueError:
            port, usable = None, False
        if not usable or not parts.hostname:
            raise Failed(f"{self.url!r} is not a URL such as http://127.0.0.1:8040")
        if parts.scheme == "http":
            return _Plain(parts.hostname, port, timeout=within_s)
        context = None
        if self.certificate is not None:
            from helexa.util.tls_pair import TlsUnusable, pinned  # Python's ssl.

            try:
                context = pinned(self.certificate)
            except TlsUnusable as error:
                raise Failed(str(error)) from error
        return http.client.HTTPSConnection(parts.hostname, port, timeout=within_s, context=context)


_Plain = http.client.HTTPConnection


def in_path(name: str) -> str:
    """A model's or key's name as a path segment; slashes of a model id stay."""
    return quote(name, safe="/:@+")


def client_of(role: str, home: Path, url: str | None, token: str | None) -> Client:
    """The client for the node of `role` under `home`, or for the one that `url` names."""
    folder = home / role
    if url:
        return Client(url.rstrip("/"), token or _token(folder / TOKEN_FILE[role], needed=False))
    found = running(folder)
    if found is None:
        raise Failed(
            f"no {role} runs on {home}; start one with `helexa {role}` or `helexa up`, "
            "or name it with --url and --token"
        )
    address = found.get(URL_FIELD[role])
    if not address:
        raise Failed(
            f"the {role} on {home} opens no control API; start it with --orchestrator-socket"
        )
    return Client(address, token or _token(folder / TOKEN_FILE[role], needed=True))


def running(folder: Path) -> dict[str, Any] | None:
    """What the node of this folder says about itself, or None when none runs."""
    try:
        facts = json.loads((folder / "run.json").read_bytes())
        os.kill(int(facts["pid"]), 0)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return None
    except PermissionError as error:
        if error.filename is None:  # The process exists; it belongs to somebody else.
            return dict(facts)
        raise Failed(f"{error.filename} cannot be read: run this as the node's own user") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise Failed(f"{folder / 'run.json'} is damaged; restarting the node repairs it") from error
    return dict(facts)


def _token(path: Path, *, needed: bool) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        if needed:
            raise Failed(f"{path} is missing; pass --token") from None
        return ""
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}; pass --token") from error
