"""`helexa operator`: keys, certificates and lists in real folders, and what nodes make of them."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helexa.cli.entry import enter
from helexa.mesh.files.armour import CERTIFICATE
from helexa.mesh.identity import NodeKey
from helexa.mesh.operators.credentials import load_credentials, read_armoured
from helexa.mesh.operators.operator import identities, read_certificate
from helexa.mesh.ticket import Ticket
from helexa.protocol.messages import Role
from helexa.util.home import HomeUnusable


@dataclass
class Said:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Helexa = Callable[..., Said]


@pytest.fixture
def helexa(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Helexa:
    def run(*argv: str, home: Path = tmp_path) -> Said:
        status = enter(["operator", *argv, "--home", str(home)])
        told = capsys.readouterr()
        return Said(status, told.out, told.err)

    return run


@pytest.fixture
def ours(helexa: Helexa) -> str:
    """The id of the operator of this home."""
    return str(
        helexa("init", "--name", "ann", "--contact", "a@ann.example", "--json").json["operator"]
    )


def key_of(home: Path, role: str) -> NodeKey:
    return NodeKey.load_or_create(home / role / "node.key")


def test_a_new_operator_has_a_private_key_and_is_told_the_next_step(
    tmp_path: Path, helexa: Helexa
) -> None:
    said = helexa("init", "--name", "ann")
    assert said.status == 0
    key = tmp_path / "operator" / "operator.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert str(key) in said.out
    assert "next: helexa operator sign cortex" in said.out
    before = key.read_bytes()
    again = helexa("init")
    assert (again.status, key.read_bytes()) == (1, before)
    assert "never replaced" in again.err
    assert len(again.err.splitlines()) == 1


def test_a_node_of_this_home_is_signed_before_it_ever_ran(
    tmp_path: Path, helexa: Helexa, ours: str
) -> None:
    said = helexa("sign", "cortex", "--region", "eu-west", "--days", "30")
    assert said.status == 0
    assert "is cortex of ann until" in said.out
    assert "from its next start" in said.out
    home = tmp_path / "cortex"
    held = load_credentials(home, key_of(tmp_path, "cortex"), time.time(), role=Role.CORTEX)
    assert held.operator == ours
    assert held.certificate is not None
    made = held.certificate
    assert (made.roles, made.region, made.name) == (("cortex",), "eu-west", "ann")
    assert made.contact == "a@ann.example"
    assert made.expires_s - made.issued_s == 30 * 86_400


def test_signing_again_renews(tmp_path: Path, helexa: Helexa, ours: str) -> None:
    first = helexa("sign", "neuron", "--json").json
    second = helexa("sign", "neuron", "--days", "700", "--json").json
    assert second["serial"] != first["serial"]
    assert second["expires_s"] > first["expires_s"]
    (row,) = helexa("show", "--json").json["signed"]
    assert (row["serial"], row["roles"]) == (second["serial"], ["neuron"])


def test_a_running_node_is_to_be_restarted(tmp_path: Path, helexa: Helexa, ours: str) -> None:
    (tmp_path / "cortex").mkdir()
    (tmp_path / "cortex" / "run.json").write_text(json.dumps({"pid": os.getpid()}))
    assert "it runs: restart it" in helexa("sign", "cortex").out


def test_a_node_elsewhere_gets_its_certificate_as_a_file(
    tmp_path: Path, helexa: Helexa, ours: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    key = key_of(elsewhere, "cortex")
    ticket = Ticket(node=key.node_id, addresses={"tls": ("192.0.2.7:9050",)})
    file = tmp_path / "their.cert"
    said = helexa("sign", str(ticket), "--role", "cortex", "--role", "neuron", "--out", str(file))
    assert said.status == 0
    installed = helexa("install", str(file), "--role", "cortex", home=elsewhere)
    assert installed.status == 0
    assert installed.out.startswith("the cortex is ann's until ")
    held = load_credentials(elsewhere / "cortex", key, time.time(), role=Role.CORTEX)
    assert held.operator == ours


def test_a_certificate_goes_to_stdout_and_the_words_beside_it(
    tmp_path: Path, helexa: Helexa, ours: str
) -> None:
    node = NodeKey.generate().node_id
    said = helexa("sign", node, "--role", "neuron")
    assert said.out.startswith(CERTIFICATE)
    assert "helexa operator install FILE --role neuron" in said.err
    file = tmp_path / "c"
    file.write_text(said.out)
    assert read_certificate(read_armoured(file, CERTIFICATE)).node == node
    assert not (tmp_path / "cortex").exists()


def test_a_revoked_node_is_on_the_list_that_the_nodes_of_this_home_carry(
    tmp_path: Path, helexa: Helexa, ours: str
) -> None:
    helexa("sign", "cortex")
    lost = NodeKey.generate().node_id
    helexa("sign", lost, "--role", "neuron")
    said = helexa("revoke", lost[:12])
    assert said.status == 0
    assert "with the cortex of this home" in said.out
    held = load_credentials(tmp_path / "cortex", key_of(tmp_path, "cortex"), time.time())
    assert held.revocations_blob
    shown = {row["node"]: row["state"] for row in helexa("show", "--json").json["signed"]}
    assert shown[lost] == "revoked"
    assert sorted(shown.values()) == ["revoked", "valid"]
    again = helexa("sign", lost, "--role", "neuron")
    assert again.status == 1
    assert "was revoked" in again.err


def test_a_revoked_node_of_this_home_does_not_start_as_if_nothing_happened(
    tmp_path: Path, helexa: Helexa, ours: str
) -> None:
    helexa("sign", "neuron")
    helexa("revoke", "neuron")
    with pytest.raises(HomeUnusable, match="was revoked by its operator"):
        load_credentials(tmp_path / "neuron", key_of(tmp_path, "neuron"), time.time())


def test_a_list_reaches_a_node_elsewhere_as_a_file_and_no_node_of_others(
    tmp_path: Path, helexa: Helexa, ours: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    key = key_of(elsewhere, "cortex")
    cert, revoked = tmp_path / "cert", tmp_path / "list"
    helexa("sign", key.node_id, "--role", "cortex", "--out", str(cert))
    said = helexa("revoke", NodeKey.generate().node_id, "--out", str(revoked))
    assert "make it known through a node of yours" in said.out
    install = ("install", str(revoked), "--role", "cortex")
    refused = helexa(*install, home=elsewhere)
    assert refused.status == 1
    assert "whose the cortex in" in refused.err
    helexa("install", str(cert), "--role", "cortex", home=elsewhere)
    assert helexa(*install, home=elsewhere).out.startswith("the cortex knows 1 revoked nodes")
    assert load_credentials(elsewhere / "cortex", key, time.time()).revocations_blob


def test_a_new_key_keeps_the_old_one_aside_and_says_what_to_sign(
    tmp_path: Path, helexa: Helexa, ours: str
) -> None:
    helexa("sign", "cortex")
    node = key_of(tmp_path, "cortex").node_id
    said = helexa("rotate")
    assert f"helexa operator sign {node} --role cortex" in said.out
    assert (tmp_path / "operator" / "operator.key.1").exists()
    shown = helexa("show", "--json").json
    assert shown["earlier"] == [ours]
    assert shown["operator"] != ours
    assert helexa("sign", "cortex").status == 0
    held = load_credentials(tmp_path / "cortex", key_of(tmp_path, "cortex"), time.time())
    assert held.identities == (shown["operator"], ours)
    assert held.certificate is not None
    assert identities(held.certificate) == held.identities


def test_show_is_a_table_with_when_each_certificate_ends(helexa: Helexa, ours: str) -> None:
    assert "nothing was signed" in helexa("show").out
    helexa("sign", "cortex", "--days", "5")
    said = helexa("show").out
    assert ours in said
    assert "a@ann.example" in said
    assert "ends soon" in said


def test_a_node_of_another_operator_is_not_taken_over(
    tmp_path: Path, helexa: Helexa, ours: str
) -> None:
    other = tmp_path / "other"
    helexa("init", home=other)
    cert = tmp_path / "cert"
    node = key_of(tmp_path, "cortex").node_id
    helexa("sign", node, "--role", "cortex", "--out", str(cert), home=other)
    helexa("install", str(cert), "--role", "cortex")
    said = helexa("sign", "cortex")
    assert said.status == 1
    assert "move its node.cert and revocations away first" in said.err
    assert helexa("show", "--json").json["signed"] == []


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["sign"], 2, "sign needs cortex, neuron, a node's id or a ticket"),
        (["show", "x"], 2, "show takes no 'x'"),
        (["install"], 2, "install needs a file"),
        (["install", "f"], 2, "install needs one --role"),
        (["install", "no-such-file", "--role", "cortex"], 1, "cannot be read: No such file"),
        (["sign", "a" * 64], 2, "needs --role cortex, --role neuron, or both"),
        (["sign", "cortex", "--role", "neuron"], 2, "cortex is a cortex: --role cortex"),
        (["sign", "gateway"], 1, "no node is called 'gateway'; say cortex or neuron"),
        (["sign", "helexaxx"], 1, "the ticket"),
        (["sign", "cortex", "--days", "0"], 1, "valid for 1 to"),
        (["sign", "cortex", "--region", "a\nb"], 1, "too long or not plain"),
        (["sign", "cortex", "--out", "no/such/folder"], 1, "cannot be written"),
    ],
)
def test_a_refusal_is_one_line_with_what_helps(
    helexa: Helexa, ours: str, argv: list[str], status: int, words: str
) -> None:
    said = helexa(*argv)
    assert said.status == status
    (line,) = said.err.splitlines()
    assert words in line


def test_without_an_operator_the_way_to_make_one_is_said(helexa: Helexa) -> None:
    for argv in (["sign", "cortex"], ["show"], ["rotate"], ["revoke", "cortex"]):
        said = helexa(*argv)
        assert said.status == 1
        assert "helexa operator init" in said.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is nothing that an operator signed"),
        ("hello", "is nothing that an operator signed"),
        (f"{CERTIFICATE}\nAAAA\n", "is broken"),
        (f"{CERTIFICATE}\n!!\n", "cut or altered"),
        ("helexa-revocations-1\nAAAA\n", "is broken"),
    ],
)
def test_a_file_that_proves_nothing_is_not_installed(
    tmp_path: Path, helexa: Helexa, content: str, words: str
) -> None:
    key_of(tmp_path, "cortex")
    file = tmp_path / "file"
    file.write_text(content)
    said = helexa("install", str(file), "--role", "cortex")
    assert said.status == 1
    assert words in said.err
    assert not (tmp_path / "cortex" / "node.cert").exists()


def test_a_certificate_of_another_node_or_role_is_not_installed(
    tmp_path: Path, helexa: Helexa, ours: str
) -> None:
    file = tmp_path / "cert"
    helexa("sign", NodeKey.generate().node_id, "--role", "cortex", "--out", str(file))
    missing = helexa("install", str(file), "--role", "cortex")
    assert "there is no cortex in" in missing.err
    key_of(tmp_path, "cortex")
    assert "not for" in helexa("install", str(file), "--role", "cortex").err
    other = tmp_path / "other"
    helexa("init", home=other)
    node = key_of(tmp_path, "cortex").node_id
    helexa("sign", node, "--role", "neuron", "--out", str(file), home=other)
    said = helexa("install", str(file), "--role", "cortex")
    assert said.status == 1
    assert "is for neuron, not for a cortex" in said.err
    assert not (tmp_path / "cortex" / "node.cert").exists()
