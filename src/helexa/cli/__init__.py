"""The command `helexa`: the only part that prints, exits, or reads the command line.

One verb per file in `verbs/`; what verbs share lies beside it.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    from helexa.cli.entry import enter  # `import helexa.cli` stays free of argparse and config.

    sys.exit(enter(sys.argv[1:]))
