"""llama.cpp described: plans, shapes, refusals and last words, without the engine."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import xllamacpp
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol.errors import (
    BodyMalformed,
    CapabilityMissing,
    HelexaError,
    ModalityUnsupported,
    ModelLoading,
    PromptTooLong,
    RequestRejected,
    RuntimeRefused,
)
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Modality, WorkloadClass
from helexa.runtime import adapters, arguments
from helexa.runtime.adapters.llama_cpp import adapter
from helexa.runtime.children.llama_cpp import parameters
from helexa.runtime.contract import (
    Ability,
    CuriousAdapter,
    DetailingAdapter,
    Endpoint,
    EngineLoad,
    ExitReason,
    Grant,
    Installation,
    ModelFiles,
    ReplicaSpec,
    ReportingAdapter,
)
from helexa.runtime.llama_cpp import memory
from helexa.runtime.llama_cpp.steering import OPENING, TOLD
from helexa.runtime.shaping import shaped as shape

TOOLS_TEMPLATE = "{% if tools %}{{ tools }}{% endif %}{{ message.tool_calls }} tool_call"
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {}}}
PIXEL = "data:image/png;base64,AAAA"


def files(**more: Any) -> ModelFiles:
    return ModelFiles(
        model=ModelId("org/m"),
        weights=Path("/srv/models/org/m.gguf"),
        **{"weights_bytes": 1 << 30, "kv_bytes_per_token": 1 << 10, **more},
    )


def spec(**more: Any) -> ReplicaSpec:
    of = {key: more.pop(key) for key in list(more) if key in ModelFiles.__dataclass_fields__}
    return ReplicaSpec(files=files(**of), **{"context_tokens": 1000, "slots": 4, **more})


def shaped(body: Any, of: ReplicaSpec | None = None, endpoint: Endpoint = Endpoint.CHAT) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.loads(shape(adapter, endpoint, data, of or spec()).body)


def chat(content: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "org/m", "messages": [{"role": "user", "content": content}], **more}


# --- what it is


def test_every_file_of_the_folder_is_a_runtime_of_that_name() -> None:
    assert "llama_cpp" in adapters.names()
    for name in adapters.names():
        assert adapters.load(name).name == name
    with pytest.raises(adapters.AdapterUnknown, match="llama_cpp"):
        adapters.load("os")


def test_what_a_model_offers_follows_from_its_files() -> None:
    found = adapters.adapter_for(files())
    assert found is not None
    assert found[0] is adapter
    assert found[1].modalities == (Modality.TEXT,)
    assert not found[1].tools
    assert adapter.serves(files(chat_template=TOOLS_TEMPLATE)).tools
    assert adapter.serves(files(chat_template="<think>")).reasoning
    seeing = adapter.serves(files(projector=Path("/srv/p.gguf")))
    assert WorkloadClass.VISION in seeing.classes
    assert Modality.IMAGE in seeing.modalities
    assert adapter.serves(files(pooling="mean")).classes == (WorkloadClass.EMBEDDING,)
    assert adapter.serves(files(pooling="rank")).classes == (WorkloadClass.RERANK,)
    assert adapter.serves(files(format="safetensors")) is None
    assert adapter.serves(files(architecture="clip")) is None


@pytest.mark.parametrize(
    ("template", "lacks"),
    [
        ("<|tool_calls_section_begin|><|tool_call_begin|>", {"json_schema", "tool_choice"}),
        ("<|open|>x<|close|><|end_of_msg|>", {"json_schema", "tool_choice"}),
        (">>>all >>>${recipient}", {"json_schema", "tool_choice"}),
        ("'function call' + '<|role_sep|>' + '<|message_sep|>'", {"json_schema"}),
        ("set dsml_token = '|DSML|'", {"tool_choice"}),
        ("<|channel|>analysis<|message|>", {"grammar"}),
        ("<|im_start|>", set()),
    ],
)
def test_what_the_engine_would_leave_out_for_a_template_is_not_offered(
    template: str, lacks: set[str]
) -> None:
    offered = adapter.serves(files(chat_template=template))
    assert offered is not None
    looked_at = {Ability.JSON_SCHEMA, Ability.TOOL_CHOICE, Ability.GRAMMAR}
    assert {one.value for one in looked_at - offered.abilities} == lacks


# --- plan and footprint


@pytest.mark.parametrize(
    ("weights_bytes", "asked", "threads"),
    [(1 << 20, 8, 1), (20 << 20, 8, 2), (1 << 30, 8, 8), (1 << 20, 0, 0), (1 << 30, 1, 1)],
)
def test_a_small_model_is_not_shared_among_many_threads(
    weights_bytes: int, asked: int, threads: int
) -> None:
    grant = Grant(socket=Path("/run/c.sock"), scratch=Path("/run"))
    plan = adapter.plan(spec(weights_bytes=weights_bytes, threads=asked), grant)
    assert json.loads(plan.argv[-1])["threads"] == threads


def test_the_context_of_the_plan_is_for_all_slots_together() -> None:
    plan = adapter.plan(
        spec(deterministic=True, threads=2, pooling=""),
        Grant(socket=Path("/run/c.sock"), scratch=Path("/run")),
    )
    assert plan.argv[0] == sys.executable
    wanted = json.loads(plan.argv[-1])
    assert wanted["context_total"] == 4000
    assert wanted["deterministic"] is True
    assert wanted["threads"] == 2
    assert wanted["socket"] == "/run/c.sock"
    assert wanted["cache_mib"] == 4  # 4000 tokens of 1 KiB, rounded up


def test_the_footprint_counts_weights_projector_and_every_slots_context() -> None:
    need = adapter.footprint(spec(projector=Path("p"), projector_bytes=7))
    assert need.weights == (1 << 30) + 7
    assert need.kv_cache == 4 * 1024 << 10  # The engine rounds 1000 tokens a slot up to 1024.
    assert need.overhead >= memory.PROCESS_BYTES + memory.PROJECTOR_BYTES
    assert need.use == need.weights + need.kv_cache + need.overhead
    assert need.reserve == need.kv_cache
    assert need.total == need.use + need.reserve


def test_weights_that_are_kept_in_another_order_too_count_twice() -> None:
    mixed = spec(multiplied=((0, 5), (2, 700), (8, 300), (12, 11)))
    assert adapter.footprint(mixed).weights == (1 << 30) + 711
    read = dataclasses.replace(mixed, arguments={"use_mmap": False})
    assert adapter.footprint(read).weights == 1 << 30


def test_layers_with_a_window_keep_no_more_than_it_and_a_batch() -> None:
    need = adapter.footprint(
        spec(
            kv_bytes_per_token=100,
            window_tokens=1_024,
            window_kv_bytes_per_token=1_000,
            context_tokens=1 << 16,
            slots=2,
        )
    )
    assert need.kv_cache == 2 * (100 * (1 << 16) + 1_000 * (1_024 + 512))


def test_a_state_is_of_one_size_whatever_the_context() -> None:
    short = spec(kv_bytes_per_token=0, state_bytes=1 << 20, context_tokens=512, slots=3)
    long = dataclasses.replace(short, context_tokens=1 << 16)
    assert adapter.footprint(short).kv_cache == adapter.footprint(long).kv_cache == 3 << 20


def test_smaller_keys_and_values_take_less() -> None:
    small = spec(arguments={"cache_type_k": "q8_0", "cache_type_v": "q4_0"})
    whole, less = adapter.footprint(spec()).kv_cache, adapter.footprint(small).kv_cache
    assert less == pytest.approx(whole * (34 / 64 + 18 / 64) / 2)


def test_attention_with_its_scores_in_memory_takes_more_for_each_head() -> None:
    flash = spec(heads=8, context_tokens=8_192)
    for slower in ({"deterministic": True}, {"arguments": {"flash_attn": "off"}}):
        scores = dataclasses.replace(flash, **slower)
        more = adapter.footprint(scores).overhead - adapter.footprint(flash).overhead
        assert more >= 512 * 8 * 8_192 * 4


def test_checkpoints_of_what_is_forgotten_are_bounded_in_memory() -> None:
    huge = spec(window_tokens=1_024, window_kv_bytes_per_token=1 << 18, context_tokens=1 << 16)
    assert adapter.footprint(huge).reserve <= 2 * memory.PROMPT_CACHE_BYTES_MAX
    assert memory.checkpoints(huge) < memory.CHECKPOINTS_MAX
    assert memory.checkpoints(spec()) == memory.CHECKPOINTS_MAX


@given(
    st.integers(1, 1 << 20),
    st.integers(1, 64),
    st.booleans(),
    st.sampled_from(["", "mean"]),
    st.integers(0, 1 << 18),
)
def test_more_context_or_slots_never_need_less(
    context: int, slots: int, deterministic: bool, pooling: str, vocabulary: int
) -> None:
    def need(context_tokens: int, slots: int) -> int:
        return adapter.footprint(
            spec(
                context_tokens=context_tokens,
                slots=slots,
                deterministic=deterministic,
                pooling=pooling,
                vocabulary=vocabulary,
                heads=8,
                feed_forward_length=512,
                embedding_length=128,
                window_tokens=512,
                window_kv_bytes_per_token=64,
            )
        ).total

    small = need(context, slots)
    assert need(context + 1, slots) >= small
    assert need(context, slots + 1) >= small


# --- arguments


def test_arguments_reach_the_engines_own_parameters() -> None:
    asked = (
        "n_batch=1024", "n_ubatch = 256", "flash_attn=on", "cache_type_k=q8_0",
        "cache_type_v=f16", "use_mmap=false", "use_mlock=off", "n_gpu_layers=0",
        "rope_freq_base=10000", "rope_freq_scale=0.5", "threads=3",
    )  # fmt: skip
    read = arguments.read(adapter, asked)
    grant = Grant(socket=Path("/run/c.sock"), scratch=Path("/run"))
    wanted = json.loads(adapter.plan(spec(arguments=read), grant).argv[-1])
    params = parameters(wanted)
    assert (params.n_batch, params.n_ubatch, params.n_gpu_layers) == (1024, 256, 0)
    assert params.cache_type_k == xllamacpp.ggml_type.GGML_TYPE_Q8_0
    assert params.cache_type_v == xllamacpp.ggml_type.GGML_TYPE_F16
    assert params.flash_attn_type == (xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED)
    assert params.load_mode == xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    assert (params.rope_freq_base, params.rope_freq_scale) == (10_000, 0.5)
    assert params.cpuparams.n_threads == 3


GRANT = Grant(socket=Path("/run/c.sock"), scratch=Path("/run"))


def command_line(**more: Any) -> list[str]:
    where = Installation(
        program=Path("/opt/llama-server"), arguments=("--no-mmap",), environment={"A": "b"}
    )
    plan = adapter.plan(spec(installation=where, **more), GRANT)
    assert plan.env["A"] == "b"
    return list(plan.argv)


def following(words: list[str], *flags: str) -> list[str]:
    return [words[words.index(flag) + 1] for flag in flags]


def test_a_program_of_the_operators_is_told_the_same_on_its_command_line() -> None:
    words = command_line(threads=2, deterministic=True, projector=Path("/srv/p.gguf"))
    assert (words[0], words[-1]) == ("/opt/llama-server", "--no-mmap")
    said = following(words, "--model", "--alias", "--host", "--ctx-size", "--parallel")
    assert said == ["/srv/models/org/m.gguf", "org/m", "/run/c.sock", "4000", "4"]
    said = following(words, "--threads", "--mmproj", "--flash-attn", "--cache-ram", "--fit")
    assert said == ["2", "/srv/p.gguf", "off", "4", "off"]
    assert {"--metrics", "--slots", "--jinja", "--no-ui", "--offline"} <= set(words)
    assert "--embeddings" not in words


def test_a_program_that_embeds_or_ranks_is_told_how() -> None:
    words = command_line(pooling="mean")
    assert following(words, "--pooling", "--batch-size", "--ubatch-size") == [
        "mean",
        "1000",
        "1000",
    ]
    assert {"--embeddings", "--kv-unified"} <= set(words)
    assert "--reranking" in command_line(pooling="rank")


def test_arguments_become_flags_of_the_program() -> None:
    asked = ("n_batch=64", "n_ubatch=32", "flash_attn=on", "cache_type_k=q8_0", "use_mlock=on",
             "n_gpu_layers=7", "rope_freq_base=10000")  # fmt: skip
    words = command_line(arguments=arguments.read(adapter, asked))
    flags = ("--batch-size", "--ubatch-size", "--flash-attn", "--cache-type-k", "--load-mode")
    assert following(words, *flags) == ["64", "32", "on", "q8_0", "mmap+mlock"]
    assert following(words, "--n-gpu-layers", "--rope-freq-base") == ["7", "10000.0"]


def test_an_interpreter_elsewhere_runs_the_script_by_its_path() -> None:
    where = Installation(python=Path("/opt/cuda/bin/python"))
    argv = adapter.plan(spec(installation=where), GRANT).argv
    assert argv[:2] == ("/opt/cuda/bin/python", "-I")
    script = Path(argv[2])
    assert script.name == "llama_cpp.py"
    assert "helexa" not in [
        line.split()[1].partition(".")[0]
        for line in script.read_text().splitlines()
        if line.startswith(("import ", "from "))
    ]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("n_batch", "not NAME=VALUE"),
        ("model=/etc/passwd", "takes no 'model'; it takes n_batch, "),
        ("n_batch=31", "n_batch is a whole number from 32 to 16384, not '31'"),
        ("n_batch=1e3", "a whole number"),
        ("rope_freq_scale=nan", "a number from 0.001 to 1"),
        ("rope_freq_scale=inf", "a number from 0.001 to 1"),
        ("use_mmap=perhaps", "true or false"),
        ("cache_type_k=q2_k", "one of f32, f16, "),
        ("flash_attn=", "one of auto, on, off"),
    ],
)
def test_an_argument_that_is_not_taken_is_refused_with_what_would_be(
    asked: str, words: str
) -> None:
    with pytest.raises(arguments.ArgumentRefused) as caught:
        arguments.read(adapter, (asked,))
    assert words in str(caught.value)


def test_an_argument_has_one_value_and_there_is_an_end_to_them() -> None:
    with pytest.raises(arguments.ArgumentRefused, match="given twice"):
        arguments.read(adapter, ("threads=1", "threads=2"))
    with pytest.raises(arguments.ArgumentRefused, match="more than"):
        arguments.read(adapter, ("threads=1",) * 1000)


# --- shape


def test_a_request_streams_is_counted_and_bounded_and_else_untouched() -> None:
    body = (
        b'{"model":"org/m","messages":[{"role":"user","content":"\\u00e9"}],'
        b'"temperature":1.50,"zz":{"b":1, "a":[ ]},"n":2}'
    )
    request = shape(adapter, Endpoint.CHAT, body, spec())
    assert request.streamed
    assert request.path == "/v1/chat/completions"
    assert request.body == (
        b'{"model":"org/m","messages":[{"role":"user","content":"\\u00e9"}],'
        b'"temperature":1.50,"zz":{"b":1, "a":[ ]},"n":2,'
        b'"stream":true,"stream_options":{"include_usage":true},"max_tokens":1000}'
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8).map("x-{}".format), JSON))
def test_fields_that_are_not_known_here_arrive_as_they_were_sent(extra: dict[str, Any]) -> None:
    sent = {**extra, **chat()}
    arrived = shaped(sent)
    assert {key: arrived[key] for key in sent} == sent
    assert list(arrived)[: len(sent)] == list(sent)


def test_a_null_limit_is_none() -> None:
    assert shaped(chat(max_tokens=None))["max_tokens"] == 1000


def test_other_stream_options_stay() -> None:
    arrived = shaped(chat(stream=True, stream_options={"include_usage": False, "x": 1}))
    assert arrived["stream_options"] == {"include_usage": True, "x": 1}


@pytest.mark.parametrize(
    ("endpoint", "body", "field"),
    [
        (Endpoint.CHAT, {}, "messages"),
        (Endpoint.CHAT, {"messages": None}, "messages"),
        (Endpoint.CHAT, {"messages": [3]}, "messages[0]"),
        (Endpoint.CHAT, {"messages": [{"role": 1}]}, "messages[0].role"),
        (Endpoint.CHAT, chat(3), "messages[0].content"),
        (Endpoint.CHAT, chat([{"text": "x"}]), "messages[0].content[0].type"),
        (Endpoint.CHAT, chat(stream_options=5), "stream_options"),
        (Endpoint.CHAT, chat(max_tokens=1.5), "max_tokens"),
        (Endpoint.CHAT, chat(tool_choice=5), "tool_choice"),
        (Endpoint.CHAT, chat(tool_choice="must"), "tool_choice"),
        (Endpoint.COMPLETIONS, {}, "prompt"),
        (Endpoint.COMPLETIONS, {"prompt": []}, "prompt"),
        (Endpoint.COMPLETIONS, {"prompt": {"a": 1}}, "prompt"),
        (Endpoint.EMBEDDINGS, {}, "input"),
        (Endpoint.EMBEDDINGS, {"input": []}, "input"),
        (Endpoint.EMBEDDINGS, {"input": [1.5]}, "input[0]"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(endpoint: Endpoint, body: Any, field: str) -> None:
    with pytest.raises(BodyMalformed) as caught:
        shaped(body, endpoint=endpoint)
    assert caught.value.param == field
    assert caught.value.status == 400


@given(st.binary(max_size=60))
def test_no_bytes_break_it_in_another_way(data: bytes) -> None:
    for endpoint in Endpoint:
        with pytest.raises(HelexaError):
            shape(adapter, endpoint, b"\x00" + data, spec())


def test_pictures_need_eyes() -> None:
    picture = chat([{"type": "image_url", "image_url": {"url": PIXEL}}])
    with pytest.raises(ModalityUnsupported) as caught:
        shaped(picture)
    assert caught.value.modality == "image"
    seeing = spec(projector=Path("/srv/p.gguf"))
    assert shaped(picture, seeing)["messages"] == picture["messages"]
    with pytest.raises(ModalityUnsupported):
        shaped(chat([{"type": "input_audio", "input_audio": {}}]), seeing)


@pytest.mark.parametrize("more", [{}, {"image_url": None}])
def test_a_picture_that_is_not_there_is_named(more: Any) -> None:
    body = chat([{"type": "text", "text": "?"}, {"type": "image_url", **more}])
    with pytest.raises(RequestRejected) as caught:
        shaped(body, spec(projector=Path("/srv/p.gguf")))
    assert caught.value.param == "messages[0].content[1].image_url"


@pytest.mark.parametrize("url", ["http://10.0.0.1/x.png", "https://x.example/", "file:///etc/x"])
def test_the_engine_is_not_sent_to_fetch_urls(url: str) -> None:
    body = chat([{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": url}}])
    with pytest.raises(RequestRejected) as caught:
        shaped(body, spec(projector=Path("/srv/p.gguf")))
    assert caught.value.param == "messages[0].content[1].image_url.url"


@pytest.mark.parametrize("kind", ["audio_url", "video_url", "image_embeds", "audio_embeds"])
def test_the_engine_is_not_handed_what_no_contract_names(kind: str) -> None:
    with pytest.raises(ModalityUnsupported):
        shaped(chat([{"type": kind, kind: {"url": "data:,"}}]), spec(projector=Path("/srv/p.gguf")))


# --- steering

STEERABLE = spec(chat_template=TOOLS_TEMPLATE, learnt={OPENING: '<call>{"name": "'})


@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_a_free_choice_is_not_steered(choice: Any) -> None:
    body = chat(tools=[WEATHER], tool_choice=choice)
    assert shaped(body, STEERABLE)["messages"] == body["messages"]


def test_a_required_call_begins_with_the_templates_own_opening() -> None:
    arrived = shaped(chat(tools=[WEATHER, CLOCK], tool_choice="required"), STEERABLE)
    assert arrived["messages"] == [
        *chat()["messages"],
        {"role": "assistant", "content": '<call>{"name": "'},
    ]
    assert arrived["continue_final_message"] is True
    assert arrived["add_generation_prompt"] is False
    assert arrived["tools"] == [WEATHER, CLOCK]


def test_a_named_call_leaves_only_that_tool() -> None:
    named = {"type": "function", "function": {"name": "get_time"}}
    arrived = shaped(chat(tools=[WEATHER, CLOCK], tool_choice=named), STEERABLE)
    assert arrived["tools"] == [CLOCK]
    assert arrived["tool_choice"] == "required"
    assert arrived["parallel_tool_calls"] is False


def test_before_the_child_runs_nothing_is_steered_yet() -> None:
    body = chat(tools=[WEATHER], tool_choice="required")
    unborn = dataclasses.replace(STEERABLE, learnt={})
    assert shaped(body, unborn)["messages"] == body["messages"]


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"tool_choice": "required"}, RequestRejected),
        (
            {
                "tools": [WEATHER],
                "tool_choice": {"type": "function", "function": {"name": "other"}},
            },
            RequestRejected,
        ),
        (
            {
                "tools": [WEATHER],
                "tool_choice": "required",
                "messages": [{"role": "assistant", "content": "so"}],
            },
            RequestRejected,
        ),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(more: dict[str, Any], error: Any) -> None:
    with pytest.raises(error):
        shaped({**chat(), **more}, STEERABLE)


MUTE = dataclasses.replace(STEERABLE, learnt={OPENING: "", TOLD: ""})


def test_a_template_without_calls_is_made_to_call_by_a_schema_of_the_tools() -> None:
    arrived = shaped(chat(tools=[WEATHER, CLOCK], tool_choice="required"), MUTE)
    assert arrived["tools"] is None
    assert arrived["tool_choice"] == "none"
    told, *others = arrived["messages"]
    assert told["role"] == "system"
    assert json.dumps(WEATHER) in told["content"]
    assert others == chat()["messages"]
    names = [each["properties"]["name"]["const"] for each in arrived["json_schema"]["anyOf"]]
    assert names == ["get_weather", "get_time"]
    assert arrived["response_format"]["json_schema"]["schema"] == arrived["json_schema"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("Be brief.", "Be brief.\n\nYou can call"),
        (None, "You can call"),
        ([{"type": "text", "text": "Be"}], "\n\nYou can call"),
    ],
)
def test_what_the_client_told_the_system_stays_before_the_tools(content: Any, told: str) -> None:
    body = chat(tools=[WEATHER], tool_choice="required")
    body["messages"].insert(0, {"role": "system", "content": content})
    first, second = shaped(body, MUTE)["messages"]
    last = first["content"][-1]["text"] if isinstance(content, list) else first["content"]
    assert last.startswith(told)
    assert second == body["messages"][1]


def test_a_template_that_tells_of_its_tools_tells_of_those_that_may_be_called() -> None:
    telling = dataclasses.replace(MUTE, learnt={OPENING: "", TOLD: "yes"})
    named = {"type": "function", "function": {"name": "get_time"}}
    arrived = shaped(chat(tools=[WEATHER, CLOCK], tool_choice=named), telling)
    assert arrived["tools"] == [CLOCK]
    assert arrived["messages"] == chat()["messages"]


def test_references_inside_the_parameters_lead_where_they_led() -> None:
    tree = {
        "type": "object",
        "properties": {"left": {"$ref": "#"}, "leaf": {"$ref": "#/$defs/leaf"}},
        "$defs": {"leaf": {"type": "boolean"}},
    }
    tool = {"type": "function", "function": {"name": "grow", "parameters": tree}}
    schema = shaped(chat(tools=[tool], tool_choice="required"), MUTE)["json_schema"]
    moved = schema["$defs"]["t0"]
    assert moved["properties"]["left"] == {"$ref": "#/$defs/t0"}
    assert moved["properties"]["leaf"] == {"$ref": "#/$defs/t0/$defs/leaf"}
    assert schema["$defs"]["t0"]["$defs"]["leaf"] == {"type": "boolean"}


def test_a_form_of_the_answer_gives_way_to_a_call_and_is_refused_beside_a_free_choice() -> None:
    form = {"type": "json_object"}
    body = chat(tools=[WEATHER], response_format=form)
    arrived = shaped({**body, "tool_choice": "required"}, STEERABLE)
    assert arrived["response_format"] is None
    assert "json_schema" not in arrived
    with pytest.raises(CapabilityMissing) as caught:
        shaped(body, STEERABLE)
    assert caught.value.param == "response_format"
    assert "llama_cpp" in caught.value.message


def test_without_tools_in_its_template_a_model_may_be_made_to_call_but_not_choose() -> None:
    mute = dataclasses.replace(MUTE, files=files())
    assert shaped(chat(tools=[WEATHER], tool_choice="required"), mute)["json_schema"]
    with pytest.raises(CapabilityMissing) as caught:
        shaped(chat(tools=[WEATHER]), mute)
    assert caught.value.param == "tools"
    assert "llama_cpp" in caught.value.message


def rendered(*prompts: str) -> list[tuple[int, bytes]]:
    return [(200, json.dumps({"prompt": prompt}).encode()) for prompt in prompts]


@pytest.mark.parametrize(
    ("question", "answered", "opening"),
    [
        ("T U <a>", 'T U <a>\n<call>{"name": "helexa_sentinel_call", "x', '\n<call>{"name": "'),
        ("T U <a>\n", "T U <a>[C] helexa_sentinel_call{x", ""),
        ("T helexa_sentinel_call U <a>", "T helexa_sentinel_call U <a>", ""),
        ("T U <a><think>", 'T U <a><call>{"name": "helexa_sentinel_call', ""),
        ("", '{"name": "helexa_sentinel_call', ""),
        ("T", "T" + "x" * 1000 + '{"name": "helexa_sentinel_call', ""),
    ],
)
def test_the_opening_is_what_stands_between_the_header_and_the_name(
    question: str, answered: str, opening: str
) -> None:
    assert isinstance(adapter, CuriousAdapter)
    learnt = adapter.learn(spec(), rendered(question, answered, question))
    told = "yes" if "sentinel" in question else ""
    assert learnt == {OPENING: opening, TOLD: told}


def test_questions_that_were_not_answered_teach_that_there_is_no_opening() -> None:
    assert isinstance(adapter, CuriousAdapter)
    for answers in ([], [(0, b""), (500, b"x"), (0, b"")], [(200, b"[]"), (200, b"{")]):
        assert adapter.learn(spec(), answers) == {OPENING: "", TOLD: ""}
    assert len(adapter.questions(spec(chat_template=TOOLS_TEMPLATE))) == 3
    assert adapter.questions(spec(pooling="mean")) == ()


# --- refusals and exits


def error(status: int, message: str, kind: str = "server_error", **more: Any) -> HelexaError:
    body = {"error": {"code": status, "message": message, "type": kind, **more}}
    return adapter.refusal(status, json.dumps(body).encode(), spec())


def test_a_prompt_over_the_context_is_refused_with_the_numbers() -> None:
    told = error(400, "too long", "exceed_context_size_error", n_prompt_tokens=1620, n_ctx=256)
    assert isinstance(told, PromptTooLong)
    assert (told.tokens, told.tokens_max) == (1620, 256)
    told = error(500, "input (1602 tokens) is too large to process. increase the batch size")
    assert isinstance(told, PromptTooLong)
    assert (told.tokens, told.tokens_max) == (1602, 1000)


@pytest.mark.parametrize(
    ("status", "message", "kind", "expected"),
    [
        (500, "image input is not supported - hint: mmproj", "server_error", ModalityUnsupported),
        (501, "does not support embeddings", "not_supported_error", CapabilityMissing),
        (503, "Loading model", "unavailable_error", ModelLoading),
        (400, "Cannot use custom grammar constraints with tools.", "x", RequestRejected),
        (500, "Failed to parse messages: Missing 'role'", "server_error", RequestRejected),
        (500, "While executing\n---\nJinja Exception: no", "server_error", RequestRejected),
        (500, "Invalid base64 value", "server_error", RequestRejected),
        (400, "std::bad_alloc", "invalid_request_error", RuntimeRefused),
        (500, "the device was lost", "server_error", RuntimeRefused),
    ],
)
def test_a_refusal_is_the_callers_or_the_engines_by_its_words(
    status: int, message: str, kind: str, expected: type[HelexaError]
) -> None:
    assert type(error(status, message, kind)) is expected


@pytest.mark.parametrize(
    ("message", "param", "words"),
    [
        (
            "No template. Automatic parser generation failed: JSON schema error at #/a: none",
            "response_format",
            "cannot follow the JSON schema: none",
        ),
        ("Failed to initialize samplers: failed to parse grammar", "grammar", "cannot follow"),
        ("Cannot use custom grammar constraints with tools.", "grammar", "exclude one another"),
    ],
)
def test_a_form_that_the_engine_cannot_follow_is_told_plainly(
    message: str, param: str, words: str
) -> None:
    for status in (400, 500):
        told = error(status, message)
        assert (told.status, told.param) == (400, param)
        assert words in told.message
        assert "sampler" not in told.message
        assert "template" not in told.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(grammar='root ::= "a"', response_format={"type": "json_object"}), "grammar"),
        (chat(grammar='root ::= "a"', json_schema={}), "grammar"),
        (chat(reasoning_format="bogus"), "reasoning_format"),
        (chat(reasoning_format=5), "reasoning_format"),
    ],
)
def test_what_the_engine_would_call_its_own_fault_is_the_clients(body: Any, param: str) -> None:
    with pytest.raises(HelexaError) as caught:
        shaped(body)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("message", "field", "words"),
    [
        (
            "Field 'n_keep': Value must be between -1 <= value <= 9, but got -2",
            "n_keep",
            "`n_keep`: Value must be between -1 <= value <= 9",
        ),
        (
            "Field 'cache_prompt': [json.exception.type_error.302] type must be boolean",
            "cache_prompt",
            "`cache_prompt`: type must be boolean",
        ),
        ("[json.exception.out_of_range.406] number overflow parsing '1e400'", None, "1e400"),
    ],
)
def test_a_field_that_the_engine_names_is_named(
    message: str, field: str | None, words: str
) -> None:
    told = error(400, message)
    assert (told.status, told.param) == (400, field)
    assert words in told.message
    assert "json.exception" not in told.message


def test_a_refusal_does_not_show_where_the_weights_lie() -> None:
    told = error(500, "cannot read /srv/models/org/m.gguf")
    assert "/srv" not in told.message
    assert "org/m" in told.message


@given(st.integers(100, 599), st.binary(max_size=100))
def test_any_refusal_has_a_meaning(status: int, body: bytes) -> None:
    assert adapter.refusal(status, body, spec()).status >= 400


@pytest.mark.parametrize(
    ("status", "log", "reason", "words"),
    [
        (
            1,
            "0.00.1 E load: error loading: unknown model architecture: 'zork'\n0.00.2 E failed",
            ExitReason.ARCHITECTURE_UNKNOWN,
            "unknown model architecture: 'zork'",
        ),
        (
            1,
            "x: tensor 'a' data is not within the file bounds, model is corrupted or incomplete",
            ExitReason.MODEL_UNREADABLE,
            "corrupted",
        ),
        (
            1,
            "E llama_init_from_model: quantized V cache requires flash_attn\nE failed to create",
            ExitReason.SETTINGS_UNSUITABLE,
            "requires flash_attn",
        ),
        (-6, "ggml: failed to allocate buffer", ExitReason.OUT_OF_MEMORY, "failed to allocate"),
        (1, "couldn't bind HTTP server socket", ExitReason.SOCKET_TAKEN, "bind"),
        (1, "No module named 'xllamacpp'", ExitReason.NOT_INSTALLED, "xllamacpp"),
        (-signal.SIGKILL, "fine", ExitReason.KILLED, "SIGKILL"),
        (-signal.SIGTERM, "", ExitReason.STOPPED, "SIGTERM"),
        (-signal.SIGSEGV, "last", ExitReason.UNKNOWN, "SIGSEGV; last words: last"),
        (7, "", ExitReason.UNKNOWN, "exit status 7; last words: it wrote nothing"),
    ],
)
def test_an_exit_is_explained_by_the_childs_own_words(
    status: int, log: str, reason: ExitReason, words: str
) -> None:
    explained = adapter.explain_exit(status, log)
    assert explained.reason is reason
    assert words in explained.detail
    assert "\n" not in explained.detail


def test_only_what_may_end_differently_is_worth_another_try() -> None:
    assert ExitReason.KILLED.retry_helps
    assert not ExitReason.MODEL_UNREADABLE.retry_helps
    assert not ExitReason.OUT_OF_MEMORY.retry_helps
    assert not ExitReason.SETTINGS_UNSUITABLE.retry_helps


# --- load


def test_what_is_no_report_says_nothing_of_the_load() -> None:
    assert isinstance(adapter, ReportingAdapter)
    assert isinstance(adapter, DetailingAdapter)
    empty = EngineLoad()
    for body in (b"", b"<html>", b"llamacpp:requests_processing nan\n", b"[1]", b"\xff"):
        assert adapter.load(body) == empty
        assert adapter.detailed(empty, body) == empty


def test_a_report_is_read_as_far_as_it_goes() -> None:
    assert isinstance(adapter, ReportingAdapter)
    assert isinstance(adapter, DetailingAdapter)
    lines = b"# TYPE x gauge\nllamacpp:requests_processing 2\nllamacpp:requests_deferred 1\n"
    load = adapter.load(lines + b"llamacpp:prompt_tokens_cached_total 1.5e+06\n")
    assert load == EngineLoad(running=2, waiting=1, cached_tokens=1_500_000)
    slots = b'[{"n_ctx":100,"n_prompt_tokens":50,"params":{}},{"n_ctx":100}]'
    assert adapter.detailed(load, slots) == dataclasses.replace(load, kv_share=0.25)
    assert adapter.detailed(load, b"[]") == load
