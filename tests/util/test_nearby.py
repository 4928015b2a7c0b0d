"""Who counts as near: this machine, and the private networks that it stands in."""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace

import psutil
import pytest

from helexa.util.nearby import is_near, networks

AROUND = (ipaddress.ip_network("192.168.7.0/24"), ipaddress.ip_network("fe80::/64"))


@pytest.mark.parametrize(
    ("remote", "near"),
    [
        ("127.0.0.1:9000", True),
        ("[::1]:9000", True),
        ("192.168.7.20:1", True),
        ("[::ffff:192.168.7.20]:1", True),
        ("192.168.8.20:1", False),
        ("[fe80::1%eth0]:5", True),
        ("[2001:db8::1]:5", False),
        ("8.8.8.8:53", False),
        ("https://relay.example.org", False),
        ("", False),
        ("garbage", False),
    ],
)
def test_near_is_loopback_or_a_network_of_this_machine(remote, near):
    assert is_near(remote, AROUND) is near


def test_public_subnets_are_full_of_strangers(monkeypatch):
    addresses = {
        "eth0": [SimpleNamespace(address="8.8.4.4", netmask="255.255.255.0")],
        "lan0": [SimpleNamespace(address="10.1.2.3", netmask="255.255.0.0")],
        "odd0": [SimpleNamespace(address="02:42:ac:11:00:02", netmask=None)],
        "six0": [SimpleNamespace(address="fd00::5%six0", netmask="ffff:ffff:ffff:ffff::")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: addresses)
    assert [str(one) for one in networks()] == ["8.8.4.4/32", "10.1.0.0/16", "fd00::/64"]
    assert is_near("10.1.9.9:1")
    assert not is_near("8.8.4.5:1")
    # Nodes of one rented machine may know no other address of it.
    assert is_near("8.8.4.4:1")
