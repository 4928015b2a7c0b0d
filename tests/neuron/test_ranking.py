"""Reranking: documents in either form, results best first, scores as the reference has them."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.test_app import ask
from tests.neuron.test_vectors import neuron
from tests.runtime_models import made, reference

from helexa.neuron.serving import ranking
from helexa.protocol.errors import BodyMalformed, RuntimeMalformed
from helexa.runtime.llama_cpp.scores import Shares, logistic
from helexa.testing import tiny_gguf

pytestmark = pytest.mark.anyio

RERANK = "/v1/rerank"


def body(**more: Any) -> bytes:
    return json.dumps({"model": "m", "query": "q", "documents": ["a", "b", "c"], **more}).encode()


def said(*scores: tuple[int, Any], **more: Any) -> bytes:
    results = [{"index": index, "relevance_score": score} for index, score in scores]
    return json.dumps({"model": "m", "results": results, **more}).encode()


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": [1]}, "documents[0]"),
        ({"documents": [{"title": "a"}]}, "documents[0].text"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": "2"}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
    ],
)
def test_what_cannot_be_ranked_is_refused_by_its_field(more: dict[str, Any], field: str) -> None:
    with pytest.raises(BodyMalformed) as caught:
        ranking.asked(body(**more))
    assert caught.value.param == field


def test_the_engine_is_asked_for_all_scores_of_plain_texts() -> None:
    _, inner = ranking.asked(
        body(documents=["a", {"text": "b", "title": "t"}], top_n=1, return_documents=True, user="u")
    )
    assert json.loads(inner) == {"model": "m", "query": "q", "documents": ["a", "b"], "user": "u"}


@given(st.permutations([(0, 0.1), (1, 0.9), (2, 0.5)]), st.integers(1, 9), st.booleans())
def test_results_are_the_best_first_whatever_the_engine_did(
    scores: list[tuple[int, float]], top_n: int, shows: bool
) -> None:
    wanted, _ = ranking.asked(body(top_n=top_n, return_documents=shows))
    found = json.loads(wanted.settled(said(*scores, usage={"total_tokens": 9})))
    assert [one["index"] for one in found["results"]] == [1, 2, 0][:top_n]
    assert found["results"][0]["relevance_score"] == 0.9
    assert found["results"][0].get("document") == ({"text": "b"} if shows else None)
    assert found["usage"] == {"total_tokens": 9}


@pytest.mark.parametrize(
    "answer",
    [
        said((0, 1.0)),
        said((0, 1.0), (1, 1.0), (1, 1.0)),
        said((0, 1.0), (1, 1.0), (3, 1.0)),
        said((0, 1.0), (1, None), (2, 1.0)),
        b'{"results": {}}',
        b"{}",
    ],
)
def test_an_answer_that_is_no_such_scores_is_the_runtimes_fault(answer: bytes) -> None:
    wanted, _ = ranking.asked(body())
    with pytest.raises(RuntimeMalformed):
        wanted.settled(answer)


@given(st.floats(-1e300, 1e300))
def test_a_share_is_between_none_and_all(value: float) -> None:
    assert 0 <= logistic(value) <= 1
    assert logistic(value) + logistic(-value) == pytest.approx(1)


def test_shares_keep_the_rest_of_the_answer() -> None:
    found = json.loads(Shares().whole(said((0, 0.0), (1, math.log(3)), usage={"total_tokens": 1})))
    assert [one["relevance_score"] for one in found["results"]] == pytest.approx([0.5, 0.75])
    assert (found["model"], found["usage"]) == ("m", {"total_tokens": 1})
    with pytest.raises(RuntimeMalformed):
        Shares().whole(b"{}")


# --- through a neuron and the real engine


@pytest.mark.parametrize("kind", ["f16", "f32"])
async def test_scores_are_those_of_the_reference_implementation(tmp_path: Path, kind: str) -> None:
    model = f"tiny-rerank-{kind}"
    async with neuron(tmp_path, made("tiny-bert")) as (_, pool):
        for told in reference("tiny-rerank"):
            documents = [
                one if at % 2 else {"text": one} for at, one in enumerate(told["documents"])
            ]
            asked = {"model": model, "query": told["query"], "documents": documents}
            reply = await ask(pool, "POST", RERANK, {**asked, "return_documents": True})
            assert reply.status == 200, reply.content
            best = sorted(range(len(documents)), key=lambda at: -told["scores"][at])
            results = reply.json["results"]
            assert [one["index"] for one in results] == best
            for one in results:
                assert one["relevance_score"] == pytest.approx(
                    told["scores"][one["index"]], abs=2e-3
                )
                assert one["document"] == {"text": told["documents"][one["index"]]}
            assert reply.json["usage"]["prompt_tokens"] > len(documents)
            assert "fault" not in reply.json["usage"]
            few = await ask(pool, "POST", RERANK, {**asked, "top_n": 2})
            assert [one["index"] for one in few.json["results"]] == best[:2]
            assert "document" not in few.json["results"][0]


async def test_each_model_does_its_own_work_and_says_what_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    shutil.copy(made("tiny-bert") / "tiny-rerank-f32.gguf", tmp_path / "m" / "ranks.gguf")
    tiny_gguf.write(tmp_path / "m" / "chats.gguf")
    tiny_gguf.write(tmp_path / "m" / "embeds.gguf", pooling=1)
    work: dict[str, dict[str, Any]] = {
        RERANK: {"query": "a", "documents": ["b"]},
        "/v1/embeddings": {"input": "a"},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
    }
    does = {"ranks": RERANK, "embeds": "/v1/embeddings", "chats": "/v1/chat/completions"}
    async with neuron(tmp_path, tmp_path / "m") as (live, pool):
        for model, own in does.items():
            for path, asked in work.items():
                reply = await ask(pool, "POST", path, {"model": model, **asked})
                if path == own:
                    assert reply.status == 200, reply.content
                else:
                    assert (reply.status, reply.error["code"]) == (400, "unsupported_capability")
        long = {"model": "ranks", "query": "a", "documents": ["b", "word " * 2000]}
        reply = await ask(pool, "POST", RERANK, long)
        asks = {"model": "ranks", "query": "word " * 2000, "documents": ["b", "c"]}
        asked_long = await ask(pool, "POST", RERANK, asks)
        assert live.roster.capability("ranks").classes[0].value == "rerank"
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    assert reply.error["param"] == "documents"
    assert (asked_long.status, asked_long.error["code"]) == (400, "context_length_exceeded")
    assert asked_long.error["param"] == "query"
