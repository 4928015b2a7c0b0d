"""A certificate and its key, read from two files and tried before anybody relies on them.

What would fail for every client fails here: the pair makes a handshake with itself,
in memory, and what its own client sees is what is known of it.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ALPN: Final = ("http/1.1",)
FILE_BYTES_MAX: Final = 1 << 20
_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which Python has no name for."""
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
_KEY: Final = b"PRIVATE KEY-----"


class TlsUnusable(Exception):
    """The pair cannot serve. Says which file, and why, for an operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    certificate: Path
    """PEM; the certificate itself first, then those that lead to one that clients trust."""
    key: Path
    """PEM, without a passphrase."""

    def stamp(self) -> object:
        """Equal as long as neither file was touched; also for files that are not there."""
        return tuple(_stamp(path) for path in (self.certificate, self.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsPair:
    context: ssl.SSLContext
    names: Sequence[str]
    """Hosts and addresses that it is for."""
    valid_from_s: float
    """Unix time."""
    valid_until_s: float


def read_pair(files: TlsFiles) -> TlsPair:
    """Blocks for a few milliseconds. Raises TlsUnusable."""
    certificate, key = _text(files.certificate), _text(files.key)
    if _CERTIFICATE not in certificate:
        raise TlsUnusable(f"{files.certificate}: no certificate in PEM is in it")
    if _KEY not in key:
        raise TlsUnusable(f"{files.key}: no private key in PEM is in it")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(ALPN))
    try:
        context.load_cert_chain(files.certificate, files.key, _no_passphrase(files.key))
    except ssl.SSLError as error:
        raise TlsUnusable(_reason(error, files)) from error
    except OSError as error:
        raise TlsUnusable(f"{files.certificate} or {files.key}: {error.strerror}") from error
    seen = _seen_by_a_client(context, certificate, files.certificate)
    return TlsPair(
        context=context,
        names=tuple(str(value) for _, value in seen.get("subjectAltName", ())),
        valid_from_s=ssl.cert_time_to_seconds(seen["notBefore"]),
        valid_until_s=ssl.cert_time_to_seconds(seen["notAfter"]),
    )


def pinned(certificate: Path) -> ssl.SSLContext:
    """For a client on the server's own machine: that certificate, whatever host it names.

    Raises TlsUnusable.
    """
    return _pinned(_text(certificate), certificate)


def _text(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise TlsUnusable(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(text) > FILE_BYTES_MAX:
        raise TlsUnusable(f"{path}: more than {FILE_BYTES_MAX} bytes")
    return text


def _no_passphrase(key: Path) -> Any:
    def ask() -> str:
        raise TlsUnusable(f"{key}: the key has a passphrase; one without is needed")

    return ask


def _reason(error: ssl.SSLError, files: TlsFiles) -> str:
    match error.reason:
        case "KEY_VALUES_MISMATCH" | "KEY_TYPE_MISMATCH":
            return (
                f"{files.key}: does not belong to the first certificate in {files.certificate}; "
                "the server's own stands before those that signed it"
            )
        case "EE_KEY_TOO_SMALL" | "CA_KEY_TOO_SMALL" | "CA_MD_TOO_WEAK" | "EE_MD_TOO_WEAK":
            return f"{files.certificate}: weaker than TLS libraries accept ({error.reason})"
        case _:
            what = (error.reason or str(error)).lower().replace("_", " ")
            return f"{files.certificate} or {files.key}: damaged ({what})"


def _pinned(certificate: bytes, path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # The first alone, and it is enough: who signed it may have signed others, too.
    own = certificate.partition(_END)[0].decode("ascii", "replace") + _END.decode()
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    try:
        context.load_verify_locations(cadata=own)
    except (ssl.SSLError, ValueError) as error:
        raise TlsUnusable(f"{path}: the certificate is damaged") from error
    return context


def _seen_by_a_client(context: ssl.SSLContext, certificate: bytes, path: Path) -> dict[str, Any]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = _pinned(certificate, path).wrap_bio(to_client, to_server)
    try:
        for side in (client, server) * 3:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        raise TlsUnusable(f"{path}: no client accepts it: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise TlsUnusable(f"{path}: no handshake succeeds with it: {error.reason}") from error
    seen: dict[str, Any] = client.getpeercert() or {}
    return seen


def _stamp(path: Path) -> object:
    try:
        found = path.stat()  # What a symbolic link leads to: renewals move the link.
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_mtime_ns, found.st_size
