"""A picture's URL, read by one strict form.

Two readers of a loose URL can find two hosts in it, and the one who checks must be the
one who connects. So there is one reading here, and what is not plainly of this form is
refused: no user names, no escapes or other alphabets in a host, no numbers that only
some systems read as addresses.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urljoin

from helexa.neuron.serving.pictures.addresses import Ip

URL_CHARS_MAX: Final = 2048
_FORM: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?",
    re.IGNORECASE | re.ASCII,
)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_PORTS: Final = {"http": 80, "https": 443}


class UrlRefused(Exception):
    """Says why, to go on from "it"; made of the client's own words alone."""


@dataclass(frozen=True, slots=True)
class PictureUrl:
    scheme: str
    host: str
    """Lower case; an IPv6 address without its brackets."""
    port: int
    path: str
    """With its query, as it is sent."""
    address: Ip | None = None
    """Where the host is one already."""

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parsed(text: str, *, ports: Sequence[int], hosts: Sequence[str] = ()) -> PictureUrl:
    """Raises UrlRefused. `hosts` are the only ones, where there are any: names or `*.NAME`."""
    if len(text) > URL_CHARS_MAX:
        raise UrlRefused(f"is longer than {URL_CHARS_MAX} characters")
    if not text.isascii() or not text.isprintable() or any(one in text for one in ' \\"<>^`{|}'):
        raise UrlRefused("has characters that a URL cannot have unquoted")
    found = _FORM.fullmatch(text)
    if found is None:
        raise UrlRefused("is not of the form `https://HOST/PATH`, without a user name")
    scheme = found["scheme"].lower()
    port = int(found["port"] or _PORTS[scheme])
    if port not in ports:
        raise UrlRefused(f"names a port other than {', '.join(map(str, ports))}")
    host = found["host"].lower()
    address = _address(host)
    host = str(address) if address is not None else host
    if hosts and not any(_is_of(host, one) for one in hosts):
        raise UrlRefused("names a host that pictures are not fetched from here")
    path = (found["path"] or "/") + (found["query"] or "")
    return PictureUrl(scheme, host, port, path, address)


def followed(url: PictureUrl, location: str) -> str:
    """The text of where a redirect leads, to be read like a client's. Raises UrlRefused."""
    try:
        return urljoin(url.text, location)
    except ValueError:
        raise UrlRefused("leads to something that is no URL") from None


def _address(host: str) -> Ip | None:
    """The host as an address, None for a name. Raises UrlRefused for what is neither plainly."""
    try:
        if host.startswith("["):
            return ipaddress.IPv6Address(host[1:-1])
        # Four plain decimal numbers: the library takes no octal, hexadecimal or short forms.
        return ipaddress.IPv4Address(host)
    except ValueError:
        pass
    labels = host.removesuffix(".").split(".")
    well_formed = len(host) <= 253 and all(map(_LABEL.fullmatch, labels))
    # A last label that is a number makes some resolvers read the whole as an address.
    if host.startswith("[") or not well_formed or _NUMBER.fullmatch(labels[-1]):
        raise UrlRefused("names a host that is neither a name nor a plain address")
    return None


def _is_of(host: str, allowed: str) -> bool:
    return fnmatchcase(host.removesuffix("."), allowed.lower())
