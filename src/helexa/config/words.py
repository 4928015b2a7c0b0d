"""What each setting means, in an operator's words, and its flag where it has one.

One sentence fits a line of `--help`; a setting that needs a flag is one that people
change often. Everything else is reached by file, variable or `--set KEY=VALUE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from helexa.util.sockets import Address


@dataclass(frozen=True, slots=True)
class Words:
    """`default` says in words what happens where no value is the default."""

    help: str
    flag: str = ""
    default: str = ""
    example: Any = None


_NAME = "How this node calls itself to people; its key stays its identity."
_REGION = "Where this node stands, in the operator's own words, such as eu-west."
_RELAY = "Relays that carry links between nodes which cannot reach each other; none by default."

WORDS: Final[Mapping[str, Words]] = {
    "home": Words(
        "The folder that holds all state: keys, database, models, logs.",
        "--home",
        default="$XDG_DATA_HOME/helexa, else ~/.local/share/helexa",
    ),
    "log_level": Words("The least important log events to show.", "--log-level"),
    "log_format": Words("Logs for people, or one JSON object a line.", "--log-format"),
    "cortex.mesh_socket": Words(
        "The UDP address at which other nodes reach this one; port 0 takes a free port "
        "at the first start and keeps it.",
        "--mesh-socket",
    ),
    "cortex.orchestrator_socket": Words(
        "Turns the orchestrator on: the control API, for the holder of the admin token.",
        "--orchestrator-socket",
        default="off",
        example=Address("127.0.0.1", 8040),
    ),
    "cortex.gateway_socket": Words(
        "Turns the gateway on: the OpenAI-compatible API.",
        "--gateway-socket",
        default="off",
        example=Address("0.0.0.0", 8080),
    ),
    "cortex.portal_sockets": Words(
        "Turns portals on: the pages for people.",
        "--portal-socket",
        default="off",
        example=(Address("0.0.0.0", 8091),),
    ),
    "cortex.name": Words(_NAME, "--name"),
    "cortex.region": Words(_REGION, "--region"),
    "cortex.policy": Words("How a neuron is chosen for a request."),
    "cortex.body_bytes_max": Words(
        "A larger request body is refused with 413 before it is read; pictures fit, films do not."
    ),
    "cortex.header_bytes_max": Words("Larger request headers are refused with 431."),
    "cortex.header_timeout_s": Words(
        "A client that takes longer from the first byte to the end of its headers is dropped."
    ),
    "cortex.body_timeout_s": Words("A client that takes longer to send its body is dropped."),
    "cortex.write_stall_s": Words(
        "A client that reads nothing for this long while bytes wait for it is dropped."
    ),
    "cortex.connections_max": Words("Client connections at once; the next is refused with 503."),
    "cortex.queue_max": Words("Requests in flight per model; the next is refused with 429."),
    "cortex.first_byte_timeout_s": Words(
        "How long a neuron may take to the first byte of its answer, a cold load included."
    ),
    "cortex.keepalive_s": Words(
        "A silent stream gets a comment this often, so that proxies do not cut it."
    ),
    "cortex.health_every_s": Words("How often neurons are asked to report."),
    "cortex.lost_after_s": Words("A neuron silent for this long gets no new requests."),
    "cortex.shutdown_grace_s": Words("How long running streams may go on after SIGTERM."),
    "cortex.relays": Words(_RELAY, example=("https://relay.example.org",)),
    "neuron.control_socket": Words(
        "The UDP address at which cortexes reach this neuron; port 0 takes a free port at "
        "the first start and keeps it.",
        "--control-socket",
    ),
    "neuron.api_socket": Words(
        "This neuron's own OpenAI-shaped API; open on loopback, by token elsewhere.",
        "--api-socket",
    ),
    "neuron.models_dir": Words(
        "The folder whose GGUF files are served; it may be empty.",
        "--models-dir",
        default="HOME/models",
    ),
    "neuron.cortexes": Words(
        "Cortexes to register with.", "--cortex", default="none: no cortex may use it"
    ),
    "neuron.name": Words(_NAME, "--name"),
    "neuron.region": Words(_REGION, "--region"),
    "neuron.labels": Words("Free marks that policies may look at.", example={"rack": "a3"}),
    "neuron.demo_models": Words(
        "Whether the demonstration models that come with helexa are offered.", "--no-demo-models"
    ),
    "neuron.preload": Words("Models to load at start.", "--preload", example=("helexa-demo",)),
    "neuron.memory_limit": Words(
        "Memory that all models together may use; 0 takes what the machine or container has."
    ),
    "neuron.memory_reserve": Words("Memory left to the rest of the machine."),
    "neuron.context_tokens": Words(
        "Context per request where a model does not say; never above what it was trained for."
    ),
    "neuron.slots": Words("Requests served at once by one loaded model."),
    "neuron.queue_max": Words("Requests waiting per model; the next is refused with 429."),
    "neuron.body_bytes_max": Words("A larger request body is refused with 413."),
    "neuron.keepalive_s": Words(
        "A silent stream gets a comment this often, so that proxies do not cut it."
    ),
    "neuron.shutdown_grace_s": Words("How long running requests may go on after SIGTERM."),
    "neuron.relays": Words(_RELAY, example=("https://relay.example.org",)),
    "neuron.models.context_tokens": Words(
        "Context per request for this model.", default="neuron.context_tokens", example=4096
    ),
    "neuron.models.slots": Words(
        "Requests served at once by this model.", default="neuron.slots", example=8
    ),
    "neuron.models.deterministic": Words(
        "Answers do not depend on what else runs; costs speed.", default="false", example=True
    ),
    "up.gateway_socket": Words("Where `helexa up` serves the OpenAI API.", "--gateway-socket"),
    "up.portal_socket": Words("Where `helexa up` serves the portal.", "--portal-socket"),
    "up.orchestrator_socket": Words(
        "Where `helexa up` serves the control API.", "--orchestrator-socket"
    ),
    "up.api_socket": Words("Where `helexa up` serves the neuron's own API.", "--api-socket"),
    "up.models": Words("Models that `helexa up` loads before it says it is ready."),
    "up.ready_timeout_s": Words("How long `helexa up` waits for both nodes and the models."),
}
