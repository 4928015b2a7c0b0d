"""`helexa cortex`: the control plane. Each role is on when its socket is given."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from helexa.cli import flags
from helexa.cli.nodes import serve

SUMMARY = "Run a cortex: mesh member, and as asked orchestrator, gateway and portals."
EXAMPLE = (
    "helexa cortex --orchestrator-socket 0.0.0.0:8040 --gateway-socket 0.0.0.0:8080 \\\n"
    "                --portal-socket 0.0.0.0:8091"
)


def configure(parser: ArgumentParser) -> None:
    flags.add(
        parser,
        "cortex.orchestrator_socket",
        "cortex.gateway_socket",
        "cortex.gateway_tls_cert",
        "cortex.gateway_tls_key",
        "cortex.portal_sockets",
        "cortex.mesh_socket",
        "cortex.name",
        "cortex.region",
        "mesh.join",
        "mesh.admission",
        "mesh.lan",
        "orchestrator.provision",
        *flags.COMMON,
    )


def run(args: Namespace) -> int:
    config = flags.config_of(args, roles=("cortex",))
    from helexa.config.entries_file import EntriesFile
    from helexa.config.federation import FederationStore
    from helexa.cortex.app import running  # Brings the whole node; `--help` does not need it.

    policy = FederationStore.of(config)
    entries = EntriesFile(config)
    return serve(
        "cortex",
        config,
        lambda events: running(config.cortex, events=events, policy=policy, entries=entries),
        on_hangup=lambda cortex: cortex.reread(),
        as_json=args.json,
    )
