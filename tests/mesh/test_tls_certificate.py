"""The fixed form of a node's certificate: an independent reader agrees, and nothing else passes."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from helexa.mesh.identity import NodeKey
from helexa.mesh.transports._tls_certificate import certificate, node_of, pem

KEY = NodeKey.from_secret(bytes(range(32)))
DER = certificate(KEY)


@given(st.binary(min_size=32, max_size=32))
def test_an_x509_library_reads_the_key_that_the_comparison_reads(secret):
    key = NodeKey.from_secret(secret)
    read = x509.load_der_x509_certificate(certificate(key))
    public = read.public_key()
    assert isinstance(public, Ed25519PublicKey)
    assert public.public_bytes_raw().hex() == key.node_id == node_of(certificate(key))
    public.verify(read.signature, read.tbs_certificate_bytes)
    assert read.subject.rfc4514_string() == "CN=helexa"


def test_the_private_key_is_the_nodes_own_and_ssl_takes_both():
    text = pem(KEY)
    private = load_pem_private_key(text.partition(b"-----BEGIN CERT")[0], None)
    assert private.private_bytes_raw() == KEY.secret_bytes
    end = text[text.index(b"-----BEGIN CERT") :].decode()
    assert ssl.PEM_cert_to_DER_cert(end) == DER


@pytest.mark.parametrize("place", [*range(105), *range(137, len(DER) - 64)])
def test_a_byte_that_differs_anywhere_but_in_key_and_signature_is_another_form(place):
    other = bytearray(DER)
    other[place] ^= 1
    assert node_of(bytes(other)) is None


@given(st.binary(max_size=300))
def test_other_bytes_are_nobodys_certificate(data):
    assert node_of(data) is None
    assert node_of(DER + b"x" + data) is None
    assert node_of(DER[: len(data) % len(DER)]) is None
