"""Keys with limits, as an operator makes and changes them, at a model that really answers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import pytest
from tests.e2e.processes import Node
from tests.e2e.raw import asked

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CHAT = "/chat/completions"
QUESTION = {"model": "helexa-demo", "messages": [{"role": "user", "content": "What is helexa?"}]}


def keys(up: Node, *arguments: str) -> dict[str, Any]:
    """`helexa keys ...` on the folder of the node that runs."""
    home = up.arguments[up.arguments.index("--home") + 1]
    done = subprocess.run(
        [sys.executable, "-m", "helexa", "keys", *arguments, "--home", home, "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(json.loads(done.stdout))


def ask(up: Node, key: str, **more: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    with asked(up.ready["base_url"], CHAT, {**QUESTION, **more}, key=key) as response:
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, json.loads(response.read()), headers


def test_a_limit_holds_and_another_one_holds_without_a_restart(up: Node) -> None:
    made = keys(up, "create", "narrow", "--account", "team", "--tokens-per-minute", "60")
    secret = made["secret"]
    assert made["key"]["account"] == "team"
    status, body, headers = ask(up, secret, max_tokens=200, ignore_eos=True)
    assert status == 200
    assert body["usage"]["completion_tokens"] == 200
    assert headers["x-ratelimit-limit-tokens"] == "60"
    status, body, headers = ask(up, secret)
    assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
    # Two hundred and more were used of sixty a minute.
    assert int(headers["retry-after"]) > 100
    changed = keys(up, "set", "narrow", "--tokens-per-minute", "100000")
    assert changed["limits"]["tokens_per_minute"] == 100_000
    assert ask(up, secret)[0] == 200
    keys(up, "set", "--account", "team", "--models", "other")
    status, body, _ = ask(up, secret)
    assert (status, body["error"]["code"]) == (403, "model_not_allowed")
    keys(up, "set", "--account", "team", "--models", "default")
    keys(up, "set", "narrow", "--output-tokens-max", "5")
    status, body, _ = ask(up, secret, ignore_eos=True)
    assert (status, body["usage"]["completion_tokens"]) == (200, 5)
    keys(up, "set", "narrow", "--expires", "2001-01-01")
    status, body, _ = ask(up, secret)
    assert (status, body["error"]["code"]) == (401, "expired_api_key")


def test_a_crowd_of_one_account_lets_another_one_in(up: Node) -> None:
    """The model has fewer slots than the crowd has requests, all of them long."""
    crowd = keys(up, "create", "crowd", "--account", "crowd")["secret"]
    single = keys(up, "create", "single", "--account", "single")["secret"]
    ended: list[str] = []
    a_first = threading.Condition()
    waited_ms: dict[str, list[int]] = {"crowd": [], "single": []}

    def long_one(key: str, name: str) -> None:
        status, _, headers = ask(up, key, max_tokens=400, ignore_eos=True)
        assert status == 200
        waited_ms[name].append(int(headers["x-helexa-queue-ms"]))
        with a_first:
            ended.append(name)
            a_first.notify()

    threads = [threading.Thread(target=long_one, args=(crowd, "crowd")) for _ in range(24)]
    for thread in threads:
        thread.start()
    first = threading.Thread(target=long_one, args=(single, "single"))
    with a_first:
        assert a_first.wait_for(lambda: ended, timeout=60)
    first.start()
    for thread in (*threads, first):
        thread.join()
    assert len(ended) == 25
    # Most of the crowd was there before it, and ended after it.
    assert ended.index("single") < 20
    assert max(waited_ms["crowd"]) > waited_ms["single"][0]
