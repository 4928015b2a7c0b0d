"""Make both demo models: `python scripts/demo_models --out DIR`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SHIPPED = HERE.parent.parent / "src" / "helexa" / "neuron" / "models" / "demo"


def main() -> int:
    """Run the two makers one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder for the GGUF files")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    options = parser.parse_args()
    for script in ("make_text.py", "make_vision.py"):
        command = [sys.executable, str(HERE / script), "--out", str(options.out)]
        command += ["--threads", str(options.threads)]
        if code := subprocess.run(command, check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
