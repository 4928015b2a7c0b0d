"""`helexa operator`: one key that stands behind many nodes."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from helexa.cli import flags
from helexa.cli.output import day, document, note
from helexa.cli.verb import Failed, Misused
from helexa.config import Config

if TYPE_CHECKING:
    # These bring keys, which `--help` does not need.
    from helexa.cli.local_nodes import LocalNode
    from helexa.mesh.operators.operator_folder import OperatorFolder
    from helexa.protocol.ids import NodeId

SUMMARY = "Make an operator's key; sign, renew and revoke the nodes that are its own."
EXAMPLE = "helexa operator sign cortex --region eu-west"

FOLDER: Final = "operator"
FILE_BYTES_MAX: Final = 64 * 1024
WORDS: Final = {"init": 0, "sign": 1, "revoke": 1, "rotate": 0, "show": 0, "install": 1}
"""By action: how many words it takes after its own."""


def configure(parser: ArgumentParser) -> None:
    parser.usage = "helexa operator ACTION [WHO | FILE] [FLAGS]"
    parser.add_argument(
        "action",
        choices=tuple(WORDS),
        metavar="ACTION",
        help="init; sign WHO; revoke WHO; rotate to a new key; show; install FILE, which was "
        "signed elsewhere",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WHO",
        help="cortex or neuron of this home, a node's id, or its ticket; for install: a file",
    )
    parser.add_argument("--name", default="", help="init: how the operator calls itself")
    parser.add_argument("--contact", metavar="TEXT", help="init, sign: where to reach its people")
    parser.add_argument(
        "--role",
        action="append",
        choices=("cortex", "neuron"),
        help="sign: what the node may be (repeatable); install: which node of this home",
    )
    parser.add_argument("--region", default="", help="sign: where the node stands")
    parser.add_argument("--days", type=int, metavar="N", help="sign: valid for so long [365]")
    parser.add_argument("--out", metavar="FILE", help="sign, revoke: write it there as text")
    flags.add(parser, *flags.COMMON)


def run(args: Namespace) -> int:
    if len(args.words) != WORDS[args.action]:
        extra = args.words[WORDS[args.action] :]
        wants = "a file" if args.action == "install" else "cortex, neuron, a node's id or a ticket"
        problem = f"takes no {extra[0]!r}" if extra else f"needs {wants}"
        raise Misused(f"{args.action} {problem}")
    config = flags.config_of(args)
    try:
        match args.action:
            case "init":
                return _init(args, config)
            case "sign":
                return _sign(args, config)
            case "revoke":
                return _revoke(args, config)
            case "rotate":
                return _rotate(args, config)
            case "install":
                return _install(args, config)
            case _:
                return _show(args, config)
    except ValueError as error:
        # What no certificate can say: the mesh's words, without a traceback.
        raise Failed(str(error)) from error


def _init(args: Namespace, config: Config) -> int:
    from helexa.mesh.operators.operator_folder import OperatorFolder

    folder = OperatorFolder.init(
        config.node.home / FOLDER, name=args.name, contact=args.contact or ""
    )
    told = (
        f"operator {folder.operator_id}\n"
        f"its key is {folder.path / 'operator.key'}: keep a copy where nobody else reads it\n"
        "next: helexa operator sign cortex"
    )
    return _say(args, {"operator": folder.operator_id, "folder": str(folder.path)}, told)


def _sign(args: Namespace, config: Config) -> int:
    from helexa.cli.operator_tables import earlier_ids
    from helexa.mesh.files.armour import CERTIFICATE, armour
    from helexa.mesh.operators.operator import read_certificate
    from helexa.mesh.operators.operator_folder import DAYS
    from helexa.protocol.messages import Role

    folder = _folder(config)
    node, local = _meant(args.words[0], config, folder)
    words = args.role or ([local.role.value] if local else [])
    if not words:
        raise Misused(f"sign {args.words[0][:16]} needs --role cortex, --role neuron, or both")
    if local is not None and local.role.value not in words:
        raise Misused(f"{args.words[0][:16]} is a {local.role.value}: --role {local.role.value}")
    if local is not None and not set(local.operators()) <= {
        folder.operator_id,
        *earlier_ids(folder),
    }:
        raise Failed(
            f"the {local.role.value} in {local.home} is of the operator "
            f"{local.operators()[0][:12]}; to make it this one's, move its node.cert and "
            "revocations away first"
        )
    blob = folder.sign(
        node,
        [Role(word) for word in dict.fromkeys(words)],
        now_s=time.time(),
        days=DAYS if args.days is None else args.days,
        region=args.region,
        contact=args.contact,
    )
    text = armour(CERTIFICATE, blob)
    made = read_certificate(blob)
    if local is not None:
        local.take_certificate(blob)
        if (in_force := folder.revocations()) is not None:
            local.take_revocations(in_force[1])
    if args.out:
        _write(Path(args.out), text)
    told = f"{node} is {' and '.join(made.roles)} of {folder.name or folder.operator_id[:12]}"
    told += f" until {day(made.expires_s)} UTC{_how_taken(local)}"
    if not args.json and local is None and not args.out:
        note(f"{told}; on its machine: helexa operator install FILE --role {made.roles[0]}")
        print(text, end="")
        return 0
    found = {
        "node": node,
        "operator": folder.operator_id,
        "roles": list(made.roles),
        "serial": made.serial,
        "expires_s": made.expires_s,
        "installed": local is not None,
        "certificate": text,
    }
    return _say(args, found, told)


def _revoke(args: Namespace, config: Config) -> int:
    from helexa.cli.local_nodes import local_nodes
    from helexa.mesh.files.armour import REVOCATIONS, armour

    folder = _folder(config)
    node, _ = _meant(args.words[0], config, folder)
    blob = folder.revoke([node], now_s=time.time())
    text = armour(REVOCATIONS, blob)
    given = []
    for word, local in local_nodes(config).items():
        # A node of somebody else who lives here has no use for the list, and would not start.
        if folder.operator_id in local.operators():
            local.take_revocations(blob)
            given.append(word)
    if args.out:
        _write(Path(args.out), text)
    told = f"{node} is revoked"
    if given:
        told += f"; the list is with the {' and the '.join(given)} of this home, "
        told += "whose next start makes it known to the mesh"
    else:
        told += "; make it known through a node of yours: --out FILE, and there "
        told += "helexa operator install FILE --role cortex"
    return _say(args, {"node": node, "given_to": given, "revocations": text}, told)


def _rotate(args: Namespace, config: Config) -> int:
    before = _folder(config)
    after = before.rotate(now_s=time.time())
    in_force = after.revocations()
    revoked = in_force[0].nodes if in_force else ()
    now_s = time.time()
    left = [
        one
        for one in after.newest().values()
        if one.node not in revoked and one.expires_s > now_s
    ]  # fmt: skip
    lines = [
        f"operator {after.operator_id}, which was {before.operator_id[:12]}",
        "lists that name the old id go on meaning this operator once its nodes are signed again:",
        *(
            f"  helexa operator sign {one.node} " + " ".join(f"--role {role}" for role in one.roles)
            for one in left
        ),
    ]
    found = {
        "operator": after.operator_id,
        "before": before.operator_id,
        "to_sign": [one.node for one in left],
    }
    return _say(args, found, "\n".join(lines if left else lines[:1]))


def _show(args: Namespace, config: Config) -> int:
    from helexa.cli import operator_tables

    found = operator_tables.described(_folder(config))
    return _say(args, found, operator_tables.shown(found))


def _install(args: Namespace, config: Config) -> int:
    from helexa.cli.installing import install
    from helexa.cli.local_nodes import local_nodes

    if len(args.role or ()) != 1:
        raise Misused("install needs one --role: the node of this home that the file is for")
    local = local_nodes(config)[args.role[0]]
    path = Path(args.words[0])
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror or error}") from error
    told, found = install(path, raw, local, now_s=time.time())
    return _say(args, found, f"{told}{_how_taken(local)}")


def _folder(config: Config) -> OperatorFolder:
    from helexa.mesh.operators.operator_folder import OperatorFolder

    return OperatorFolder.open(config.node.home / FOLDER)


def _meant(word: str, config: Config, folder: OperatorFolder) -> tuple[NodeId, LocalNode | None]:
    from helexa.cli.local_nodes import local_nodes
    from helexa.mesh.ticket import PREFIX, Ticket, TicketMalformed
    from helexa.protocol.ids import NodeId, is_node_id

    nodes = local_nodes(config)
    if word in nodes:
        return nodes[word].node(), nodes[word]
    text = word.strip().lower()
    if text.startswith(PREFIX):
        try:
            text = Ticket.parse(text).node
        except TicketMalformed as error:
            raise Failed(str(error)) from error
    known = {one.node for one in folder.signed() if len(text) >= 8 and one.node.startswith(text)}
    if len(known) == 1:
        (text,) = known
    if not is_node_id(text):
        problem = f"{len(known)} nodes' ids begin with" if known else "no node is called"
        raise Failed(
            f"{problem} {word[:80]!r}; say cortex or neuron for the one of this home, "
            "or give a node's id (helexa inspect cortex) or its ticket"
        )
    here = (one for one in nodes.values() if one.exists and one.node() == text)
    return NodeId(text), next(here, None)


def _how_taken(local: LocalNode | None) -> str:
    if local is None:
        return ""
    runs = "it runs: restart it to show it" if local.runs else "it shows it from its next start"
    return f"; {runs}"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror or error}") from error


def _say(args: Namespace, found: dict[str, Any], told: str) -> int:
    if args.json:
        document(found)
    else:
        print(told)
    return 0
