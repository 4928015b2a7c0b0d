"""The flags that say which running node a verb means."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from helexa.cli import flags
from helexa.cli.client import Client, client_of


def add(parser: ArgumentParser, *, flag: str = "--token") -> None:
    group = parser.add_argument_group("which node")
    group.add_argument(
        "--url", metavar="URL", help="a node's control API instead of the one under --home"
    )
    group.add_argument(flag, dest="token", metavar="TOKEN", help="the token for --url")
    flags.add(parser, *flags.COMMON)


def client(args: Namespace, role: str) -> Client:
    config = flags.config_of(args)
    return client_of(role, config.node.home, args.url, args.token)
