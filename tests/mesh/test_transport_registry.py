"""Transports are found by the names of their files and imported when they are opened."""

from __future__ import annotations

import logging
import sys

import pytest

from helexa.mesh import transports
from helexa.mesh.transports import TransportUnusable, iroh, load, load_all, names


@pytest.fixture
def without_iroh(monkeypatch):
    """A machine for which nobody builds iroh's wheel."""
    for module in [one for one in sys.modules if one.startswith("helexa.mesh.transports.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "iroh", None)


@pytest.fixture
def only_iroh_and_spare(monkeypatch):
    """A second transport that works anywhere, whatever files the folder holds."""
    spare = type(sys)("helexa.mesh.transports.spare")
    spare.open_transport = object()
    monkeypatch.setitem(sys.modules, spare.__name__, spare)
    monkeypatch.setattr(transports, "names", lambda: ["iroh", "spare"])
    return spare.open_transport


def test_the_folder_is_the_registry_without_parts_and_without_the_one_for_tests():
    assert "iroh" in names()
    assert "memory" not in names()
    assert not [name for name in names() if name.startswith("_")]


def test_a_transport_is_loaded_by_the_name_of_its_file():
    assert load("iroh") is iroh.open_transport


@pytest.mark.parametrize("name", ["carrier-pigeon", "memory", "_engine", "../iroh", ""])
def test_a_word_that_names_no_transport_is_refused_with_those_that_do(name):
    with pytest.raises(TransportUnusable, match=r"no transport .* this build has .*iroh"):
        load(name)


@pytest.mark.usefixtures("without_iroh", "only_iroh_and_spare")
def test_a_transport_asked_for_by_name_is_refused_where_its_package_is_missing():
    with pytest.raises(TransportUnusable, match="'iroh' cannot be used on this machine"):
        load_all(["spare", "iroh"], each=True)


@pytest.mark.usefixtures("without_iroh")
def test_a_transport_among_the_defaults_is_logged_and_left_out(only_iroh_and_spare, caplog):
    with caplog.at_level(logging.WARNING):
        assert load_all(["iroh", "spare"], each=False) == {"spare": only_iroh_and_spare}
    (record,) = caplog.records
    assert "'iroh' cannot be used on this machine" in record.message
    assert "goes on without it" in record.message


@pytest.mark.usefixtures("without_iroh", "only_iroh_and_spare")
def test_a_node_with_no_transport_at_all_is_refused():
    with pytest.raises(TransportUnusable, match="iroh"):
        load_all(["iroh"], each=False)
    with pytest.raises(TransportUnusable, match="no transport was asked for"):
        load_all([], each=False)


def test_the_order_asked_for_is_the_order_given(only_iroh_and_spare):
    assert list(load_all(["spare", "iroh"], each=True)) == ["spare", "iroh"]
    assert list(load_all(["iroh", "spare"], each=True)) == ["iroh", "spare"]
