"""A model hub on loopback: the API, the redirects, and everything that goes wrong with them.

In a test or benchmark:

    async with Hub.running() as hub:
        hub.repo("org/tiny").commit({"tiny.gguf": data})
        hub.plain["weights.bin"] = data
        hub.mood.rate_bytes_per_s = 10 << 20
        ...                      # hub.url, hub.plain_url("weights.bin")
        assert hub.sent["tiny.gguf"] == len(data)

As a process of its own, over a folder of files: `python -m helexa.testing.hub FOLDER`.
"""

from helexa.testing.hub.contents import Content, Repo
from helexa.testing.hub.mood import Fault, Mood
from helexa.testing.hub.server import Hub, Seen

__all__ = ["Content", "Fault", "Hub", "Mood", "Repo", "Seen"]
