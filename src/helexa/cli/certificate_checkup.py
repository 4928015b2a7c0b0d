"""Whether the gateway's certificate can serve, and for how long."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from typing import Final

from helexa.cli.finding import Finding
from helexa.config import Config
from helexa.util.tls_pair import TlsFiles, TlsUnusable, read_pair

ENDS_SOON_S: Final = 14 * 86_400.0
_ABOUT: Final = "certificate"


def of_certificate(config: Config) -> Iterator[Finding]:
    """Nothing where the gateway speaks plain HTTP."""
    certificate, key = config.cortex.gateway_tls_cert, config.cortex.gateway_tls_key
    if certificate is None or key is None:
        return
    try:
        pair = read_pair(TlsFiles(certificate=certificate, key=key))
    except TlsUnusable as error:
        yield Finding("error", _ABOUT, str(error))
        return
    if stat.S_IMODE(key.stat().st_mode) & 0o007:
        yield Finding("warning", _ABOUT, f"{key} can be read by everybody", f"chmod o= {key}")
    days = (pair.valid_until_s - time.time()) / 86_400
    until = time.strftime("%Y-%m-%d", time.gmtime(pair.valid_until_s))
    names = ", ".join(pair.names) or "no host"
    if pair.valid_until_s < time.time():
        yield Finding("warning", _ABOUT, f"{certificate} expired on {until}", "renew it")
    elif pair.valid_from_s > time.time():
        yield Finding("warning", _ABOUT, f"{certificate} is not valid yet", "look at the clock")
    elif pair.valid_until_s < time.time() + ENDS_SOON_S:
        what = f"{certificate} expires on {until}, in {days:.0f} days"
        yield Finding("warning", _ABOUT, what, "renew it")
    else:
        yield Finding("ok", _ABOUT, f"{names}; until {until}, {days:.0f} days")
