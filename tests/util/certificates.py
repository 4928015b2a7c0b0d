"""Certificates and keys as an operator has them: PEM files, of an authority of the test's own."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from helexa.util.tls_pair import TlsFiles

HOST = "gateway.test"


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """A root that signs an intermediate, which signs the servers' own."""

    folder: Path

    def __post_init__(self) -> None:
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._middle_key = ec.generate_private_key(ec.SECP256R1())
        self._root = self._signed("root", self._root_key, "root", self._root_key, ca=True)
        self._middle = self._signed("middle", self._middle_key, "root", self._root_key, ca=True)

    @property
    def root_pem(self) -> bytes:
        return self._root.public_bytes(serialization.Encoding.PEM)

    def client(self) -> ssl.SSLContext:
        """Trusts the root alone, as a client on another machine does."""
        context = ssl.create_default_context(cadata=self.root_pem.decode())
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def files(
        self,
        name: str = "server",
        *,
        days: float = 90,
        passphrase: bytes | None = None,
        leaf_first: bool = True,
    ) -> TlsFiles:
        """A fresh pair in files of this name, with its chain."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._signed(HOST, key, "middle", self._middle_key, days=days)
        chain = [leaf, self._middle] if leaf_first else [self._middle, leaf]
        files = TlsFiles(
            certificate=self.folder / f"{name}.crt.pem", key=self.folder / f"{name}.key.pem"
        )
        files.certificate.write_bytes(
            b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
        )
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(passphrase)
                if passphrase
                else serialization.NoEncryption(),
            )
        )
        return files

    def _signed(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        issuer_key: ec.EllipticCurvePrivateKey,
        *,
        days: float = 365,
        ca: bool = False,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        ends = now + dt.timedelta(days=days)
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        names = [x509.DNSName(name)]
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, ends) - dt.timedelta(days=1))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(own, critical=False)
            .add_extension(by, critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not ca,
                    key_cert_sign=ca,
                    crl_sign=ca,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )
