"""`helexa doctor`: what would stop a node here from starting or from serving, and what helps."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from helexa.cli import flags
from helexa.cli.output import document
from helexa.config import ConfigRefused

SUMMARY = "Find and explain what would stop a node on this machine."
EXAMPLE = "helexa doctor --config helexa.toml"

MARKS = {"ok": "ok  ", "warning": "warn", "error": "FAIL"}


def configure(parser: ArgumentParser) -> None:
    flags.add(parser, "neuron.models_dir", *flags.COMMON)


def run(args: Namespace) -> int:
    from helexa.cli import checkup  # Brings psutil and the native parts that it tries.

    findings = checkup.of_python()
    try:
        config = flags.config_of(args, roles=("cortex", "neuron"))
    except ConfigRefused as error:
        findings += checkup.of_refusal(error)
    else:
        findings += checkup.of_machine(config)
    failed = any(one.level == "error" for one in findings)
    if args.json:
        document(
            {
                "ok": not failed,
                "findings": [
                    {"level": one.level, "about": one.about, "what": one.what, "fix": one.fix}
                    for one in findings
                ],
            }
        )
        return int(failed)
    width = max(len(one.about) for one in findings)
    for one in findings:
        print(f"{MARKS[one.level]}  {one.about:{width}}  {one.what}")
        if one.fix:
            print(f"{'':{width + 6}}  fix: {one.fix}")
    return int(failed)
