"""transformers described: plans, refusals and last words; and the parts of its child that need no
torch: turns, words, marks, prompts.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol.errors import (
    CapabilityMissing,
    HelexaError,
    ModalityUnsupported,
    PromptTooLong,
    RequestRejected,
)
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Modality, WorkloadClass
from helexa.runtime import adapters
from helexa.runtime.adapters.transformers import adapter
from helexa.runtime.children.hugging import prompts
from helexa.runtime.children.hugging.marks import Marks
from helexa.runtime.children.hugging.turns import Turns
from helexa.runtime.children.hugging.words import Words
from helexa.runtime.children.server.engine import Refused
from helexa.runtime.contract import (
    Ability,
    AcceleratedAdapter,
    Endpoint,
    ExitReason,
    Grant,
    Installation,
    ModelFiles,
    PackagedAdapter,
    ReplicaSpec,
    ReportingAdapter,
)
from helexa.runtime.shaping import shaped

HERMES = "{% if tools %}{{ tools }}{% endif %}<tool_call>"
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
PIXEL = "data:image/png;base64,AAAA"


def files(**more: Any) -> ModelFiles:
    usual = {
        "format": "safetensors",
        "quantisation": "BF16",
        "model_class": "LlamaForCausalLM",
        "chat_template": "{{ messages }}",
        "weights_bytes": 1 << 30,
        "kv_bytes_per_token": 1 << 10,
        "embedding_length": 64,
        "vocabulary": 1000,
    }
    return ModelFiles(model=ModelId("org/m"), weights=Path("/srv/org/m"), **{**usual, **more})


def spec(**more: Any) -> ReplicaSpec:
    of = {key: more.pop(key) for key in list(more) if key in ModelFiles.__dataclass_fields__}
    return ReplicaSpec(files=files(**of), **{"context_tokens": 1000, "slots": 4, **more})


def wanted(given: ReplicaSpec, **grant: Any) -> tuple[list[str], dict[str, Any]]:
    plan = adapter.plan(given, Grant(socket=Path("/run/c.sock"), scratch=Path("/run"), **grant))
    *words, said = plan.argv
    return words, json.loads(said)


def chat(given: ReplicaSpec, **more: Any) -> Any:
    body = {"messages": [{"role": "user", "content": "hi"}], **more}
    return json.loads(shaped(adapter, Endpoint.CHAT, json.dumps(body).encode(), given).body)


# --- what it offers


def test_it_has_the_abilities_that_its_protocols_name() -> None:
    assert isinstance(adapter, PackagedAdapter)
    assert isinstance(adapter, ReportingAdapter)
    assert isinstance(adapter, AcceleratedAdapter)
    assert adapters.load("transformers") is adapter


@pytest.mark.parametrize(
    "more",
    [
        {"format": "gguf"},
        {"quantisation": "AWQ"},
        {"quantisation": "FP8"},
        {"pooling": "other"},
        {"pooling": "none"},
        {"model_class": "T5ForConditionalGeneration"},
    ],
)
def test_what_it_cannot_run_right_it_does_not_serve(more: dict[str, Any]) -> None:
    assert adapter.serves(files(**more)) is None


def test_what_a_model_is_for_is_read_off_its_files() -> None:
    found = adapter.serves(files())
    assert found is not None
    assert WorkloadClass.CHAT_INTERACTIVE in found.classes
    assert found.modalities == (Modality.TEXT,)
    assert Ability.TOOLS not in found.abilities
    plain = adapter.serves(files(chat_template=""))
    assert plain is not None
    assert plain.classes == (WorkloadClass.COMPLETION,)
    sees = adapter.serves(files(model_class="LlavaForConditionalGeneration", sees=True))
    assert sees is not None
    assert Modality.IMAGE in sees.modalities
    embeds = adapter.serves(files(pooling="mean", dimensions=(32,)))
    assert embeds is not None
    assert embeds.classes == (WorkloadClass.EMBEDDING,)
    assert embeds.abilities == {Ability.DIMENSIONS}
    ranks = adapter.serves(files(pooling="rank"))
    assert ranks is not None
    assert ranks.classes == (WorkloadClass.RERANK,)


def test_tools_and_thoughts_need_a_template_whose_marks_are_known() -> None:
    tools = adapter.serves(files(chat_template=HERMES))
    assert tools is not None
    assert {Ability.TOOLS, Ability.TOOL_CHOICE, Ability.PARALLEL_TOOLS} <= tools.abilities
    other = adapter.serves(files(chat_template=f"{HERMES}<function="))
    assert other is not None
    assert Ability.TOOLS not in other.abilities
    thinks = adapter.serves(files(chat_template="<think>"))
    assert thinks is not None
    assert Ability.REASONING in thinks.abilities


def test_calls_cannot_be_demanded_of_a_model_without_them() -> None:
    with pytest.raises(CapabilityMissing, match="transformers"):
        chat(spec(), tools=[TOOL], tool_choice="required")
    assert chat(spec(chat_template=HERMES), tools=[TOOL], tool_choice="required")["tools"] == [TOOL]


def test_pictures_are_refused_by_a_model_that_reads_text() -> None:
    seen = [{"type": "image_url", "image_url": {"url": PIXEL}}]
    messages = [{"role": "user", "content": seen}]
    with pytest.raises(ModalityUnsupported):
        chat(spec(), messages=messages)
    given = spec(sees=True, model_class="LlavaForConditionalGeneration")
    assert chat(given, messages=messages)["messages"] == messages


def test_requests_are_streamed_and_bounded() -> None:
    sent = chat(spec())
    assert sent["stream"] is True
    assert sent["stream_options"]["include_usage"] is True
    assert sent["max_tokens"] == 1000


# --- how it is started


def test_a_plan_runs_our_child_by_path_under_any_interpreter() -> None:
    at = Installation(python=Path("/opt/hf/bin/python"), environment={"A": "b"})
    words, said = wanted(spec(installation=at))
    assert words[0] == "/opt/hf/bin/python"
    assert words[1] == "-I"
    assert Path(words[2]).is_file()
    assert words[3] == "transformers"
    assert said["weights"] == "/srv/org/m"
    assert said["context"] == 1000
    assert said["kind"] == "text"
    plan = adapter.plan(spec(installation=at), Grant(socket=Path("/s"), scratch=Path("/run")))
    assert plan.env["A"] == "b"
    assert plan.env["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"pooling": "mean"}, "embedding"),
        ({"pooling": "rank"}, "rerank"),
        ({"sees": True, "model_class": "LlavaForConditionalGeneration"}, "vision"),
    ],
)
def test_a_child_has_one_kind_of_work(more: dict[str, Any], kind: str) -> None:
    assert wanted(spec(**more))[1]["kind"] == kind


def test_a_small_model_gets_no_more_threads_than_help() -> None:
    assert wanted(spec(threads=16, weights_bytes=1 << 20))[1]["threads"] == 1
    assert wanted(spec(threads=16))[1]["threads"] == 16
    assert wanted(spec(threads=16, arguments={"threads": 3}))[1]["threads"] == 3
    assert wanted(spec())[1]["threads"] == 0


def test_it_computes_on_the_devices_that_it_was_lent() -> None:
    assert wanted(spec())[1]["devices"] == 0
    assert wanted(spec(), devices=(2, 3))[1]["devices"] == 2


def test_wider_numbers_take_more_memory() -> None:
    narrow, wide = (
        adapter.footprint(spec(arguments={"dtype": one})) for one in ("auto", "float32")
    )
    assert narrow.weights == 1 << 30
    assert wide.weights == 2 << 30
    assert wide.reserve - narrow.reserve == 4 * 1000 << 10
    assert 0 < narrow.on_devices < narrow.total


# --- what it says


def test_too_long_a_prompt_comes_with_its_numbers() -> None:
    code = "context_length_exceeded"
    said = {"error": {"message": "x", "code": code, "n_prompt_tokens": 12, "n_ctx": 8}}
    found = adapter.refusal(400, json.dumps(said).encode(), spec())
    assert isinstance(found, PromptTooLong)
    assert "12" in str(found)


def test_what_the_child_refuses_is_the_callers_mistake() -> None:
    said = {"error": {"message": "`dimensions` is one of 8.", "param": "dimensions"}}
    found = adapter.refusal(400, json.dumps(said).encode(), spec())
    assert isinstance(found, RequestRejected)
    assert adapter.refusal(500, b"<html>", spec()).status >= 500


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "transformers did not start: No module named 'torch'",
            ExitReason.NOT_INSTALLED,
        ),
        (
            "transformers did not start: No module named 'llguidance'",
            ExitReason.NOT_INSTALLED,
        ),
        (
            "transformers did not start: No module named 'PIL'",
            ExitReason.NOT_INSTALLED,
        ),
        (
            (
                "transformers did not start: ValueError: The checkpoint you are trying to load has "
                "model type `x9` but Transformers does not recognize this architecture."
            ),
            ExitReason.ARCHITECTURE_UNKNOWN,
        ),
        (
            (
                "transformers did not start: ValueError: Unrecognized configuration class <class "
                "'transformers.models.bert.BertConfig'> for this kind of AutoModel"
            ),
            ExitReason.ARCHITECTURE_UNKNOWN,
        ),
        (
            (
                "transformers did not start: SafetensorError: Error while deserializing header: "
                "header too large"
            ),
            ExitReason.MODEL_UNREADABLE,
        ),
        (
            "transformers did not start: OutOfMemoryError: CUDA out of memory. Tried to allocate",
            ExitReason.OUT_OF_MEMORY,
        ),
        (
            (
                "transformers did not start: RuntimeError: [enforce fail at alloc_cpu.cpp] err == "
                "0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
            ),
            ExitReason.OUT_OF_MEMORY,
        ),
        (
            (
                "transformers did not start: CUDA is not available: this build computes on "
                "processors alone"
            ),
            ExitReason.SETTINGS_UNSUITABLE,
        ),
        (
            "transformers did not start: couldn't bind /x: [Errno 98] Address already in use",
            ExitReason.SOCKET_TAKEN,
        ),
    ],
)
def test_last_words_have_a_reason(line: str, reason: ExitReason) -> None:
    found = adapter.explain_exit(1, f"some warning\n{line}\n")
    assert found.reason is reason
    if reason is ExitReason.NOT_INSTALLED:
        assert "pip install 'helexa[transformers]'" in found.detail
    else:
        assert found.detail == line


def test_how_busy_it_is_is_read_and_nonsense_is_not() -> None:
    assert isinstance(adapter, ReportingAdapter)
    found = adapter.load(b'{"running": 2, "waiting": 1, "kv_share": null, "cached_tokens": null}')
    assert (found.running, found.waiting) == (2, 1)
    assert adapter.load(b'{"running": "x"}').running is None
    assert adapter.load(b"\xff").running is None


# --- turns


def test_all_that_wait_come_in_turn() -> None:
    """Two that have many steps each take them one by one, and a third is not left out."""
    turns, steps, ready = Turns(), [], threading.Barrier(3)

    def work(name: str) -> None:
        ready.wait()
        with turns.mine():
            for _ in range(50):
                steps.append(name)
                turns.yield_to_others()

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    with turns.mine():
        for thread in threads:
            thread.start()
        # Until all of them stand in line.
        while len(turns._waiting) < 3:
            pass
    for thread in threads:
        thread.join(30)
    assert sorted(steps) == sorted("abc" * 50)
    assert all(len(set(steps[at : at + 3])) == 3 for at in range(0, 150, 3))


def test_a_turn_ends_when_its_holder_fails() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="x"), turns.mine():
        raise ValueError("x")
    with turns.mine():
        turns.yield_to_others()


# --- words


def utf8(tokens: Any) -> str:
    """A tokenizer whose tokens are bytes."""
    return bytes(tokens).decode(errors="replace")


@given(st.text(max_size=30))
def test_the_words_of_all_tokens_are_the_text(text: str) -> None:
    words = Words(utf8)
    pieces = [words.feed(token) for token in text.encode()]
    assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text
    assert "".join(pieces) + words.end() == text


def test_half_a_character_is_held_back_until_there_is_nothing_more() -> None:
    words = Words(utf8)
    assert [words.feed(token) for token in "ü".encode()] == ["", "ü"]
    assert words.feed("ü".encode()[0]) == ""
    assert words.end() == "\ufffd"


def test_a_space_that_belongs_to_the_word_before_is_kept() -> None:
    """Some tokenizers leave out the space of the first token that they decode."""
    vocabulary = ["▁the", "▁cat", "s"]

    def decode(tokens: Any) -> str:
        return "".join(vocabulary[token] for token in tokens).replace("▁", " ").removeprefix(" ")

    words = Words(decode)
    assert "".join(words.feed(token) for token in (0, 1, 2)) + words.end() == "the cats"


# --- marks


def marked(text: str, cut: int = 1, **how: Any) -> tuple[str, str, list[Any]]:
    marks = Marks(**{"thoughts": True, "calls": True, **how})
    found = [marks.feed(text[at : at + cut]) for at in range(0, len(text), cut)]
    found.append(marks.end())
    return (
        "".join(one.text for one in found),
        "".join(one.thought for one in found),
        [call for one in found for call in one.calls],
    )


CALL = '<tool_call>\n{"name": "f", "arguments": {"x": "</tool"}}\n</tool_call>'


@pytest.mark.parametrize("cut", [1, 3, 7, 1000])
def test_thoughts_text_and_calls_come_apart(cut: int) -> None:
    text, thought, calls = marked(f"<think>\nhm < 3</think>\n\nSure.\n{CALL}\n{CALL}", cut)
    assert thought == "\nhm < 3"
    assert text == "Sure."
    assert [call["index"] for call in calls] == [0, 1]
    assert len({call["id"] for call in calls}) == 2
    assert calls[0]["function"] == {"name": "f", "arguments": '{"x": "</tool"}'}


def test_a_thought_that_the_prompt_began_goes_on() -> None:
    assert marked("so</think>yes", is_thinking=True) == ("yes", "so", [])


@pytest.mark.parametrize("inner", ["nonsense", "[]", '{"name": 7}', '{"arguments": {}}', ""])
def test_a_call_that_is_none_is_text(inner: str) -> None:
    text, _, calls = marked(f"a <tool_call>{inner}</tool_call>")
    assert calls == []
    assert text == f"a <tool_call>{inner}</tool_call>"


def test_a_call_that_was_not_closed_is_one_if_it_is_whole() -> None:
    assert len(marked('<tool_call>{"name": "f"}')[2]) == 1
    text, _, calls = marked('<tool_call>{"name": "f')
    assert calls == []
    assert text == '<tool_call>{"name": "f'


@given(st.text(max_size=40), st.integers(1, 5))
def test_text_without_marks_stays_as_it_is(text: str, cut: int) -> None:
    if "<think>" in text or "<tool_call>" in text:
        return
    assert marked(text, cut, thoughts=False, calls=False)[0] == text
    assert marked(text, cut)[0] == text.lstrip()


# --- prompts


def test_arguments_of_calls_become_objects() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    said = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    (found,) = prompts.conversation(said, "", sees=False)
    assert found["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    call["function"] = {"name": "f", "arguments": "{"}
    with pytest.raises(Refused, match="not JSON"):
        prompts.conversation(said, "", sees=False)


def test_texts_in_parts_are_one_text_for_models_that_read_texts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    (found,) = prompts.conversation([{"role": "user", "content": parts}], "", sees=False)
    assert found["content"] == "a\nb"


def test_pictures_stand_where_they_were_in_the_text() -> None:
    parts = [{"type": "image_url", "image_url": {"url": PIXEL}}, {"type": "text", "text": "b"}]
    (found,) = prompts.conversation([{"role": "user", "content": parts}], "", sees=True)
    assert found["content"] == [{"type": "image"}, {"type": "text", "text": "b"}]
    with pytest.raises(Refused, match="text alone"):
        prompts.conversation([{"role": "user", "content": parts}], "", sees=False)


def test_a_template_that_goes_through_parts_gets_parts() -> None:
    template = "{% for part in message['content'] %}{{ part.text }}{% endfor %}"
    (found,) = prompts.conversation([{"role": "user", "content": "a"}], template, sees=True)
    assert found["content"] == [{"type": "text", "text": "a"}]


class Writes:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.said: dict[str, Any] = {}

    def apply_chat_template(self, talk: Any, **said: Any) -> str:
        self.said = said
        if self.error:
            raise self.error
        return "text"


def test_what_a_template_says_no_to_is_the_clients_to_know() -> None:
    with pytest.raises(Refused, match="roles must alternate"):
        prompts.rendered(Writes(ValueError("roles must alternate")), [{}], {})


def test_a_message_is_gone_on_with_or_answered_and_not_both() -> None:
    writer = Writes()
    talk = [{"role": "assistant", "content": "a"}]
    prompts.rendered(writer, talk, {"continue_final_message": True})
    assert writer.said["continue_final_message"] is True
    assert writer.said["add_generation_prompt"] is False
    both = {"continue_final_message": True, "add_generation_prompt": True}
    with pytest.raises(Refused, match="to be false"):
        prompts.rendered(writer, talk, both)
    with pytest.raises(Refused, match="not the assistant's"):
        prompts.rendered(writer, [{"role": "user"}], {"continue_final_message": True})


def test_no_tools_is_said_as_none_at_all() -> None:
    writer = Writes()
    prompts.rendered(writer, [{}], {"tools": [TOOL], "tool_choice": "none"})
    assert writer.said["tools"] is None
    prompts.rendered(writer, [{}], {"tools": [TOOL]})
    assert writer.said["tools"] == [TOOL]


def test_a_client_may_not_set_what_the_server_sets() -> None:
    with pytest.raises(Refused, match="cannot set tools"):
        prompts.rendered(Writes(), [{}], {"chat_template_kwargs": {"tools": []}})
    writer = Writes()
    prompts.rendered(writer, [{}], {"chat_template_kwargs": {"enable_thinking": False}})
    assert writer.said["enable_thinking"] is False


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.png",
        "data:image/png;base64,@@",
        "data:text/plain;base64,AAAA",
        PIXEL,
        7,
        None,
    ],
)
def test_what_is_no_picture_is_refused(url: Any) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    with pytest.raises(Refused):
        prompts.pictures([{"role": "user", "content": [part]}])


@given(st.binary(max_size=40))
def test_every_answer_of_the_child_has_a_meaning(body: bytes) -> None:
    assert isinstance(adapter.refusal(400, body, spec()), HelexaError)


def test_what_the_child_does_not_know_is_refused_by_the_name_of_the_runtime() -> None:
    said = {"error": {"message": "`x` is not known here.", "param": "x", "code": "unknown_field"}}
    found = adapter.refusal(400, json.dumps(said).encode(), spec())
    assert isinstance(found, CapabilityMissing)
    assert (found.field, found.runtime) == ("x", "transformers")
