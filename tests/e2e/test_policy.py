"""What a request asks of its way, between two operators' real nodes, and what it is told after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from tests.e2e.fleet import CHAT, Fleet, fleet, question_to
from tests.e2e.processes import helexa, until
from tests.e2e.raw import asked

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MODEL = "m"


@dataclass
class Said:
    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class Pair:
    """Ann's cortex and neuron, and Ben's, who lends for a price."""

    ann: Fleet
    ben: Fleet

    def ask(self, path: str = CHAT, body: Any = None, **more: Any) -> Said:
        sent = {**question_to(MODEL), **more} if path == CHAT else body
        with asked(self.ann.url, path, sent, key=self.ann.key) as response:
            text = response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            body = json.loads(text) if text.startswith(b"{") else text
            return Said(response.status, headers, body)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        made = []
        for name, price in (("ann", 0), ("ben", 3)):
            folder = tmp_path_factory.mktemp(name)
            settings = [f"cortex.name={name}", f"federation.price_completion={price}"]
            one = stack.enter_context(fleet(folder, settings))
            one.start_neuron(f"of-{name}", [MODEL], "--preload", MODEL)
            until(one.loaded, lambda found: MODEL in found)
            made.append(one)
        ann, ben = made
        helexa("mesh", "join", str(ben.cortex.ready["ticket"]), home=ann.home)
        helexa("mesh", "trust", str(ben.cortex.ready["node_id"]), home=ann.home)
        helexa("mesh", "trust", str(ann.cortex.ready["node_id"]), home=ben.home)
        until(
            lambda: ann.control(f"/api/v1/explain?model={MODEL}")["candidates"],
            lambda found: len([one for one in found if one["place"]]) == 2,
        )
        yield Pair(ann, ben)


def test_a_body_decides_which_operator_serves_and_the_answer_says_so(pair: Pair) -> None:
    here = pair.ask(helexa={"federation": False})
    assert here.status == 200
    assert here.headers["x-helexa-served-by"].startswith("of-ann; operator=")
    assert here.headers["x-helexa-price"] == "prompt=0; completion=0"
    there = pair.ask(provider={"only": ["ben"], "quantizations": ["int8"]})
    assert there.status == 200, there.body
    by = there.headers["x-helexa-served-by"]
    assert by.startswith("of-ben; operator=")
    assert by.endswith("; via=ben")
    assert there.headers["x-helexa-price"] == "prompt=0; completion=3"
    assert here.body["choices"] == there.body["choices"]

    # What nobody can keep is refused, and what nobody fulfils names each with the reason.
    dear = pair.ask(provider={"ignore": ["local"], "max_price": {"completion": 0.002}})
    assert dear.status == 503
    assert "cortex ben asks 3 nano-credits a token, over 2" in dear.body["error"]["message"]
    fine = pair.ask(helexa={"min_quantisation": "F16"})
    assert fine.status == 503
    for who in ("neuron of-ann has Q8_0, under F16", "cortex ben has Q8_0, under F16"):
        assert who in fine.body["error"]["message"]
    assert pair.ask(provider={"zdr": True}).body["error"]["param"] == "provider.zdr"


def test_what_became_of_it_is_told_afterwards(pair: Pair) -> None:
    answer = pair.ask(models=["nobody-has-it", MODEL], model="nor-this", provider={"only": ["ben"]})
    assert answer.status == 200, answer.body
    assert answer.headers["x-helexa-model"] == MODEL
    path = f"/v1/generation?id={answer.headers['x-helexa-request-id']}"
    told = pair.ask(path).body["data"]
    used = answer.body["usage"]
    assert (told["model"], told["helexa"]["model_asked"]) == (MODEL, "nor-this")
    assert told["tokens_completion"] == used["completion_tokens"]
    assert told["tokens_prompt"] == used["prompt_tokens"]
    assert told["helexa"]["cost_nano"] == 3 * used["completion_tokens"]
    assert told["helexa"]["policy"]["asked"] == "only=ben; models=nobody-has-it,m"
    (attempt,) = told["helexa"]["attempts"]
    assert attempt["served_by"].startswith("of-ben; ")
    assert attempt["digest"].startswith("sha256:")
    model = pair.ask(f"/v1/models/{MODEL}").body
    rows = {row["cortex"]: row for row in model["helexa"]["served_by"]}
    assert rows["local"]["quantisation"] == rows["ben"]["quantisation"] == "Q8_0"
    assert rows["ben"]["operator"] == attempt["operator"][:16]
