"""`helexa mesh`: other cortexes - finding them, letting them in, and what is shared with them."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from helexa.cli import mesh_policy, mesh_tables, mesh_wait, remote
from helexa.cli.client import Client
from helexa.cli.output import document, event, note
from helexa.cli.verb import Misused
from helexa.util.units import format_seconds, parse_seconds

SUMMARY = "See and shape the mesh: peers, joining, admission, trust, what is lent and borrowed."
EXAMPLE = "helexa mesh policy set 'lend_classes=!chat_*'"

ROOT: Final = "/api/v1/mesh"
WHOM: Final = "whom: an id, the head of one, or a name"


def configure(parser: ArgumentParser) -> None:
    parser.usage = "helexa mesh ACTION [...] [FLAGS]"
    parser.add_argument(
        "action",
        choices=tuple(ACTIONS),
        metavar="ACTION",
        help="status, peers, ping WHO, ticket, join TICKET, leave, pending, approve WHO, "
        "deny WHO, trust WHO [LEVEL], forget WHO, policy [set NAME=VALUE... | unset NAME...]",
    )
    parser.add_argument("words", nargs="*", metavar="...", help="what the action is about")
    parser.add_argument(
        "--wait",
        type=int,
        metavar="N",
        help="status: until the cortex answers, N seconds at most; peers: until N are alive",
    )
    parser.add_argument("--wait-offers", metavar="MODEL", help="peers: until one offers it")
    parser.add_argument("--wait-has", metavar="MODEL", help="peers: the same, if only to others")
    parser.add_argument("--watch", action="store_true", help="peers: then tell every change")
    parser.add_argument("--invite", action="store_true", help="ticket: its holder is let in")
    parser.add_argument("--uses", type=int, metavar="N", help="invite: for so many nodes [1]")
    parser.add_argument(
        "--expires", type=_seconds, metavar="TIME", help="invite: for so long, such as 7d [24h]"
    )
    parser.add_argument("--role", choices=("cortex", "neuron"), help="invite: for these alone")
    parser.add_argument("--trust", choices=("known", "trusted"), help="invite, approve: as [known]")
    remote.add(parser)


def run(args: Namespace) -> int:
    action = ACTIONS[args.action]
    if not action.least <= len(args.words) <= action.most:
        wants = f"; it takes {action.wants}" if action.wants else ""
        few = len(args.words) < action.least
        problem = "needs more" if few else f"takes no {args.words[action.most]!r}"
        raise Misused(f"{args.action} {problem}{wants}")
    return action.act(args)


def _status(args: Namespace) -> int:
    def look() -> dict[str, Any]:
        return dict(remote.client(args, "cortex").get(ROOT))

    found = look() if args.wait is None else mesh_wait.until(
        look, lambda _: True, within_s=args.wait, missing="no answer"
    )  # fmt: skip
    return _say(args, found, mesh_tables.status)


def _peers(args: Namespace) -> int:
    def look() -> list[dict[str, Any]]:
        return list(remote.client(args, "cortex").get(f"{ROOT}/peers")["peers"])

    at_least, offering, having = args.wait or 0, args.wait_offers or "", args.wait_has or ""
    if at_least or offering or having:
        offers = f", one of them offering {offering}" if offering else ""
        offers += f", one of them with {having}" if having else ""
        rows = mesh_wait.until(
            look,
            lambda found: mesh_wait.is_there(
                found, at_least=at_least, offering=offering, having=having
            ),
            within_s=mesh_wait.WAIT_S,
            missing=f"fewer than {max(at_least, 1)} peers alive{offers}",
        )
    else:
        rows = look()
    if not args.watch:
        return _say(args, {"peers": rows}, lambda found: mesh_tables.peers(found["peers"]))
    if not args.json:
        print(mesh_tables.peers(rows), flush=True)
    for line in mesh_wait.watched(look):
        if args.json:
            event({"event": "peer", "message": line})
        else:
            print(line, flush=True)
    return 0


def _ping(args: Namespace) -> int:
    return _say(args, _post(args, "ping", {"who": args.words[0]}), mesh_tables.ping)


def _ticket(args: Namespace) -> int:
    wished = {"uses": args.uses, "expires_s": args.expires, "role": args.role, "trust": args.trust}
    invite = {name: value for name, value in wished.items() if value is not None}
    if invite and not args.invite:
        raise Misused("--uses, --expires, --role and --trust are about an --invite")
    found = _post(args, "ticket", {"invite": invite if args.invite else None})
    if args.invite and not args.json:
        span = format_seconds(invite.get("expires_s", 86_400))
        note(f"it lets in whoever holds it, {invite.get('uses', 1)} time(s), for {span}: a secret")
    return _say(args, found, lambda one: str(one["ticket"]))


def _join(args: Namespace) -> int:
    report: dict[str, Any] = {}
    for said in remote.client(args, "cortex").lines(f"{ROOT}/join", {"ticket": args.words[0]}):
        if "step" not in said:
            report = said
        elif not args.json:
            print(mesh_tables.step(said["step"]), flush=True)
    if args.json:
        document(report)
    elif report.get("joined"):
        print("joined; `helexa mesh peers` shows the others")
    else:
        note("helexa: not joined")
    return 0 if report.get("joined") else 1


def _leave(args: Namespace) -> int:
    text = "left; this cortex stays out until `helexa mesh join`"
    return _say(args, _post(args, "leave", {}), lambda _: text)


def _pending(args: Namespace) -> int:
    found = remote.client(args, "cortex").get(f"{ROOT}/pending")
    return _say(args, found, lambda one: mesh_tables.pending(one["pending"]))


def _approve(args: Namespace) -> int:
    body = {"who": args.words[0], "trust": args.trust or "known"}
    return _say(args, _post(args, "approve", body), lambda one: f"{one['who']} is {one['trust']}")


def _deny(args: Namespace) -> int:
    return _say(args, _post(args, "deny", {"who": args.words[0]}), _decided)


def _trust(args: Namespace) -> int:
    level = args.words[1] if len(args.words) > 1 else args.trust or "trusted"
    if level not in ("known", "trusted"):
        raise Misused(f"{level!r} is no level to give; use known or trusted, or `helexa mesh deny`")
    return _say(args, _post(args, "trust", {"who": args.words[0], "level": level}), _decided)


def _forget(args: Namespace) -> int:
    return _say(args, _post(args, "forget", {"who": args.words[0]}), _decided)


def _policy(args: Namespace) -> int:
    shown = mesh_policy.policy(args, args.words)
    return _say(args, {"policy": shown}, lambda found: mesh_policy.told(found["policy"]))


def _decided(found: dict[str, Any]) -> str:
    closed = found.get("closed", 0)
    ended = f"; {closed} link(s) ended" if closed else ""
    return f"{found['who']} is {found['trust']}{ended}"


def _post(args: Namespace, call: str, body: Mapping[str, Any]) -> dict[str, Any]:
    client: Client = remote.client(args, "cortex")
    return dict(client.post(f"{ROOT}/{call}", body))


def _say(args: Namespace, found: Any, words: Callable[[Any], str]) -> int:
    if args.json:
        document(found)
    else:
        print(words(found))
    return 0


def _seconds(text: str) -> int:
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Action:
    """What it does, and how many words it takes after its own."""

    act: Callable[[Namespace], int]
    least: int = 0
    most: int = 0
    wants: str = ""


ACTIONS: Final[Mapping[str, Action]] = {
    "status": Action(_status),
    "peers": Action(_peers),
    "ping": Action(_ping, 1, 1, WHOM),
    "ticket": Action(_ticket),
    "join": Action(_join, 1, 1, "a ticket"),
    "leave": Action(_leave),
    "pending": Action(_pending),
    "approve": Action(_approve, 1, 1, WHOM),
    "deny": Action(_deny, 1, 1, WHOM),
    "trust": Action(_trust, 1, 2, f"{WHOM}, then maybe known or trusted"),
    "forget": Action(_forget, 1, 1, WHOM),
    "policy": Action(_policy, 0, 65, mesh_policy.USE),
}
