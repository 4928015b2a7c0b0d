"""`helexa neuron`: the data plane."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from helexa.cli import flags
from helexa.cli.nodes import serve

SUMMARY = "Run a neuron: keep models, run them, and register with cortexes."
EXAMPLE = (
    "helexa neuron --control-socket 0.0.0.0:9050 --api-socket 127.0.0.1:8060 \\\n"
    "                --models-dir /var/lib/helexa/models"
)


def configure(parser: ArgumentParser) -> None:
    flags.add(
        parser,
        "neuron.control_socket",
        "neuron.api_socket",
        "neuron.models_dir",
        "neuron.cortexes",
        "neuron.lan",
        "neuron.preload",
        "neuron.demo_models",
        "neuron.name",
        "neuron.region",
        *flags.COMMON,
    )


def run(args: Namespace) -> int:
    config = flags.config_of(args, roles=("neuron",))
    from helexa.neuron.app import running  # Brings the whole node; `--help` does not need it.

    return serve(
        "neuron",
        config,
        lambda events: running(config.neuron, events=events),
        as_json=args.json,
    )
