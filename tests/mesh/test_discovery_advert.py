"""What an advert says, and what is made of one that somebody else sent."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.mesh.discovery.advert import (
    Advert,
    AdvertMalformed,
    Heard,
    advert_of,
    read,
    write_txt,
)
from helexa.mesh.discovery.interfaces import HOSTS_MAX, Interface, hosts_of, interfaces, reachable
from helexa.util.sockets import Address

NODE, OTHER = "ab" * 32, "cd" * 32


def interface(*addresses, name="eth0", is_loopback=False):
    return Interface(
        name, 2, tuple(ipaddress.ip_interface(each) for each in addresses), is_loopback
    )


HERE = (interface("192.168.1.7/24", "fd00::7/64"), interface("172.17.0.1/16", name="docker0"))
HOSTS = ("192.168.1.9",)


def heard(advert, hosts=HOSTS):
    return Heard(advert.instance, write_txt(advert), hosts)


nodes = st.binary(min_size=32, max_size=32).map(bytes.hex)
adverts = st.builds(
    Advert,
    node=nodes,
    ports=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True),
        st.integers(1, 65_535),
        min_size=1,
        max_size=8,
    ),
    role=st.sampled_from(["cortex", "neuron"]),
    name=st.text("abc äöü 漢字 x-1", max_size=80),
    operator=st.none() | nodes,
)


@given(adverts)
def test_an_advert_reads_as_it_was_written(advert):
    found = read(heard(advert), HERE)
    assert found.ticket.node == advert.node
    assert found.ticket.addresses == {
        each: (f"192.168.1.9:{port}",) for each, port in advert.ports.items()
    }
    assert list(found.ticket.addresses) == list(advert.ports)
    assert (found.role, found.operator) == (advert.role, advert.operator)
    assert advert.name[:64].startswith(found.name)
    assert len(found.name) >= min(len(advert.name), 50)


@given(adverts)
def test_an_advert_fits_one_packet_and_no_string_is_too_long(advert):
    assert len(write_txt(advert)) <= 900


@given(st.text(max_size=70), st.binary(max_size=400), st.lists(st.text(max_size=30), max_size=4))
def test_whatever_comes_is_read_or_refused(instance, txt, hosts):
    with pytest.raises(AdvertMalformed):
        read(Heard(instance, txt, tuple(hosts)), HERE)


@given(adverts, st.data())
def test_a_damaged_advert_is_read_or_refused(advert, data):
    txt = bytearray(write_txt(advert))
    txt[data.draw(st.integers(0, len(txt) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(Heard(advert.instance, bytes(txt), HOSTS), HERE)
    except AdvertMalformed:
        return
    assert len(found.ticket.node) == 64


def test_a_key_of_a_newer_build_is_skipped_and_the_first_of_two_counts():
    txt = write_txt(Advert(node=NODE, ports={"tls": 1}))
    found = read(Heard(NODE[:32], txt + b"\x05new=1\x0aport-tls=2", HOSTS), HERE)
    assert found.ticket.addresses == {"tls": ("192.168.1.9:1",)}


def test_a_name_cannot_act_on_a_terminal():
    found = read(heard(Advert(node=NODE, ports={"tls": 1}, name="\x1b[2Jann\u202e")), HERE)
    assert found.name == "?[2Jann?"


def test_an_advert_named_for_another_key_is_refused():
    txt = write_txt(Advert(node=NODE, ports={"tls": 1}))
    with pytest.raises(AdvertMalformed, match="not the one that the service is named for"):
        read(Heard(OTHER[:32], txt, HOSTS), HERE)


# --- where it can be reached


@pytest.mark.parametrize(
    ("hosts", "best"),
    [
        # The finder's own network first, then other private ones, then v6, its own address last.
        (
            ("10.0.0.1", "fd00::9", "192.168.1.9", "172.17.0.1"),
            ("192.168.1.9", "fd00::9", "10.0.0.1", "172.17.0.1"),
        ),
        # Another process of this machine.
        (("192.168.1.7",), ("192.168.1.7",)),
        (("8.8.8.8", "2001:4860::1"), ()),
        (("0.0.0.0", "::", "224.0.0.251", "ff02::fb", "fe80::1", "127.0.0.1", "::1"), ()),
        (("", "host.example", "1.2.3", "192.168.1.9:80", "fe80::1%eth0"), ()),
    ],
)
def test_the_hosts_of_an_advert_are_sorted_by_how_they_can_be_reached(hosts, best):
    assert reachable(hosts, HERE) == best


def test_a_public_address_counts_where_this_machine_stands_in_its_network():
    assert reachable(("8.8.8.8",), (interface("8.8.8.1/24"),)) == ("8.8.8.8",)


def test_an_advert_of_many_hosts_costs_few_dials():
    hosts = [f"192.168.1.{number}" for number in range(250)]
    assert len(reachable(hosts, HERE)) == HOSTS_MAX


def test_loopback_counts_only_on_loopback():
    here = (interface("127.0.0.1/8", name="lo", is_loopback=True),)
    assert reachable(("127.0.0.1",), here) == ("127.0.0.1",)


def test_an_advert_says_ipv4_first_and_loopback_last():
    lo = interface("127.0.0.1/8", "::1/128", name="lo", is_loopback=True)
    assert hosts_of((lo, *HERE)) == (
        "172.17.0.1",
        "192.168.1.7",
        "fd00::7",
        "127.0.0.1",
        "::1",
    )


def test_this_machines_interfaces_have_addresses_that_can_be_told():
    for one in interfaces(loopback=True):
        assert one.addresses
        assert not any(
            address.ip.is_link_local and address.version == 6 for address in one.addresses
        )
    assert any(one.is_loopback for one in interfaces(loopback=True))


# --- what a node says of itself


def of(**bound):
    return advert_of(NODE, {each: Address.parse(at) for each, at in bound.items()})


def test_a_node_behind_a_wildcard_leaves_its_addresses_to_the_interfaces():
    assert of(tls="0.0.0.0:1", iroh="[::]:2") == Advert(node=NODE, ports={"tls": 1, "iroh": 2})


def test_a_node_bound_to_addresses_says_those():
    said = of(tls="10.0.0.1:1", iroh="10.0.0.1:2")
    assert said == Advert(node=NODE, ports={"tls": 1, "iroh": 2}, hosts=("10.0.0.1",))


def test_a_transport_on_loopback_is_nobody_elses_business():
    assert of(tls="127.0.0.1:1", iroh="0.0.0.0:2") == Advert(node=NODE, ports={"iroh": 2})
    assert of(tls="127.0.0.1:1") is None
    assert of() is None
