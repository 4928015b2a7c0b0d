"""Write the bytes of messages that have none kept yet: `python -m tests.protocol.keep_golden`.

What is kept is never written again: it stands for nodes in the field.
"""

from __future__ import annotations

from pathlib import Path

from tests.protocol.examples import EXAMPLES

from helexa.protocol.frames import HANDSHAKE_VERSION, Frame, encode
from helexa.protocol.messages import Hello
from helexa.protocol.version import VERSION

FOLDER = Path(__file__).parent / "golden" / f"v{VERSION}"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for example in EXAMPLES:
        path = FOLDER / f"{example.__struct_config__.tag}.hex"
        if not path.exists():
            version = HANDSHAKE_VERSION if isinstance(example, Hello) else VERSION
            path.write_text(encode(Frame(7, 3, example), version=version).hex() + "\n")
            print(f"kept {path.name}")


if __name__ == "__main__":
    main()
