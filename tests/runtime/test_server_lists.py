"""What servers say of their models, in their lists and elsewhere, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol.ids import ModelId
from helexa.protocol.work import Modality, WorkloadClass
from helexa.runtime import offers
from helexa.runtime.contract import Ability
from helexa.runtime.openai_compatible import address, curiosity, listing, told


def listed(*data: dict[str, Any]) -> Any:
    return listing.entries(json.dumps({"object": "list", "data": data}).encode())


def test_a_list_that_says_names_alone_tells_nothing_else() -> None:
    (one,) = listed({"id": "a", "object": "model"})
    assert (one.called, one.told) == ("a", told.Told())


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data":{}}', b'"x"', b"[" * 100_000])
def test_what_is_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(listing.ListRefused):
        listing.entries(body)


def test_entries_that_are_none_are_left_out() -> None:
    assert [one.called for one in listed({"id": 1}, {"id": ""}, {"id": "a\nb"}, {"id": "b"})] == [
        "b"
    ]


def test_a_bare_list_is_a_list_too() -> None:
    (one,) = listing.entries(b'[{"id":"a","type":"embedding","context_length":512}]')
    assert one.told.classes == (WorkloadClass.EMBEDDING,)
    assert one.told.context_tokens == 512


@pytest.mark.parametrize(
    ("entry", "context"),
    [
        ({"id": "a", "owned_by": "vllm", "max_model_len": 4096}, 4096),
        ({"id": "a", "context_window": 8192, "active": True}, 8192),
        ({"id": "a", "context_length": "much"}, 0),
        ({"id": "a", "max_model_len": True}, 0),
        ({"id": "a", "max_model_len": -5}, 0),
        # What the model was trained for is not what that server gives a request.
        ({"id": "a", "meta": {"n_ctx_train": 131072}}, 0),
    ],
)
def test_the_context_is_read_where_a_server_tells_it(entry: dict[str, Any], context: int) -> None:
    assert listed(entry)[0].told.context_tokens == context


def test_another_neuron_tells_all_of_its_models() -> None:
    capability = {
        "model": "m", "state": "loaded", "runtime": "llama_cpp", "architecture": "llama",
        "classes": ["chat_interactive", "completion", "vision"], "modalities": ["text", "image"],
        "abilities": ["tools", "seed", "newer_word"], "context_tokens": 2048, "parameters": 7,
    }  # fmt: skip
    (one,) = listed({"id": "m", "owned_by": "helexa", "helexa": capability})
    can = told.capabilities(one.told, offers.read(("chat", "logprobs", "embedding")))
    assert set(can.abilities) == {Ability.TOOLS, Ability.SEED}
    assert Modality.IMAGE in can.modalities
    assert WorkloadClass.EMBEDDING not in can.classes
    assert (one.told.context_tokens, one.told.architecture) == (2048, "llama")
    assert not one.told.is_borrowed


def test_what_a_neuron_has_from_elsewhere_and_what_failed_there_is_known() -> None:
    own = {"state": "failed", "reason": "it is broken", "runtime": "openai_compatible"}
    (one,) = listed({"id": "m", "helexa": own})
    assert one.told.is_borrowed
    assert one.told.unfit == "it is broken"


def test_a_cortex_tells_a_part_beside_its_member() -> None:
    (one,) = listed({
        "id": "m", "context_length": 1024, "state": "unloaded", "workloads": ["embedding"],
        "modalities": ["text"], "helexa": {"structured_output": True},
    })  # fmt: skip
    assert one.told.classes == (WorkloadClass.EMBEDDING,)
    assert one.told.abilities == {Ability.JSON_SCHEMA}
    assert one.told.context_tokens == 1024


def test_a_cloud_tells_modalities_and_parameters() -> None:
    (text, paints) = listed(
        {"id": "a", "context_length": 100, "supported_parameters": ["tools", "seed"],
         "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]}},
        {"id": "b", "architecture": {"output_modalities": ["image"]}},
    )  # fmt: skip
    can = told.capabilities(text.told, offers.read(("logprobs", "grammar")))
    # It names the parameters that it takes, so what it does not name it does not take; of
    # grammars it never speaks, and the operator's word holds.
    assert can.abilities == {
        Ability.TOOLS, Ability.PARALLEL_TOOLS, Ability.SEED, Ability.GRAMMAR
    }  # fmt: skip
    assert Modality.IMAGE in can.modalities
    assert paints.told.unfit


def asked(entry: dict[str, Any], url: str = "http://h/v1") -> curiosity.Question | None:
    return curiosity.question(listed(entry)[0], address.parse(url))


def test_ollama_is_asked_for_each_model() -> None:
    question = asked({"id": "llama3.2:3b", "owned_by": "library"})
    assert question is not None
    assert (question.method, question.path) == ("POST", "/api/show")
    assert json.loads(question.body) == {"model": "llama3.2:3b"}
    heard = question.heard(json.dumps({
        "capabilities": ["completion", "tools", "vision"],
        "details": {"family": "llama", "quantization_level": "Q4_K_M"},
        "model_info": {"general.architecture": "llama", "general.parameter_count": 3},
    }).encode())  # fmt: skip
    can = told.capabilities(heard, offers.read(("seed", "reasoning")))
    assert can.abilities == {Ability.TOOLS, Ability.SEED}
    assert WorkloadClass.VISION in can.classes
    assert (heard.quantisation, heard.parameters) == ("Q4_K_M", 3)
    embeds = question.heard(b'{"capabilities":["embedding"]}')
    assert told.capabilities(embeds, offers.read(())).classes == (WorkloadClass.EMBEDDING,)


def test_llama_server_is_asked_for_its_properties() -> None:
    question = asked({"id": "x.gguf", "owned_by": "llamacpp"}, "http://h/prefix/v1")
    assert question is not None
    assert question.path == "/prefix/props"
    heard = question.heard(json.dumps({
        "default_generation_settings": {"n_ctx": 2048}, "modalities": {"vision": True},
        "chat_template": "{% if tools %}<tool_call>{% endif %}<think>",
    }).encode())  # fmt: skip
    assert heard.sees
    assert heard.context_tokens == 2048
    assert {Ability.TOOLS, Ability.REASONING, Ability.JSON_SCHEMA} <= heard.abilities
    assert Ability.TOOL_CHOICE not in heard.abilities


def test_lm_studio_and_tgi_are_asked_where_they_answer() -> None:
    studio = asked({"id": "qwen/q", "owned_by": "organization_owner"})
    tgi = asked({"id": "org/m", "owned_by": "org/m"})
    assert studio is not None
    assert tgi is not None
    assert studio.path == "/api/v0/models/qwen/q"
    heard = studio.heard(b'{"type":"vlm","arch":"q","capabilities":["tool_use"]}')
    assert (heard.sees, heard.abilities) == (True, {Ability.TOOLS})
    assert tgi.path == "/info"
    assert tgi.heard(b'{"max_total_tokens":4096}').context_tokens == 4096
    assert tgi.heard(b'{"name":"something else"}') == told.Told()


def test_a_server_that_nobody_knows_is_asked_nothing_more() -> None:
    assert asked({"id": "gpt-x", "owned_by": "openai"}) is None
    assert asked({"id": "ft:gpt-x:org", "owned_by": "openai"}) is None


@pytest.mark.parametrize("entry", [
    {"id": "a:b", "owned_by": "library"}, {"id": "a", "owned_by": "llamacpp"},
    {"id": "a", "owned_by": "organization_owner"}, {"id": "a", "owned_by": "a"},
])  # fmt: skip
@given(body=st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(
        st.sampled_from(["capabilities", "details", "model_info", "type", "n_ctx", "modalities",
                         "default_generation_settings", "max_total_tokens", "vision"]),
        each, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_nothing_that_a_server_says_of_a_model_breaks_it(entry: dict[str, Any], body: Any) -> None:
    question = asked(entry)
    assert question is not None
    heard = question.heard(json.dumps(body).encode())
    files = told.files_of(ModelId("m"), server="s", called="c", told=heard, offers=offers.read(()))
    assert files.told is not None


def test_the_words_of_a_server_are_bounded() -> None:
    said = told.Told(description="x\x1b[2J" * 999, parameters=1 << 90, context_tokens=1 << 60)
    files = told.files_of(ModelId("m"), server="s", called="c", told=said, offers=offers.read(()))
    assert len(files.description) <= 300
    assert files.description.isprintable()
    assert files.context_tokens_trained < 1 << 25
    assert files.parameters <= 1 << 50
