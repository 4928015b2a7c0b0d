"""What each setting means, in an operator's words, and its flag where it has one.

One sentence fits a line of `--help`; a setting that needs a flag is one that people
change often. Everything else is reached by file, variable or `--set KEY=VALUE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from helexa.cortex.settings import Alias
from helexa.protocol.messages import SourceFile
from helexa.protocol.work import Price, WorkloadClass
from helexa.util.sockets import Address


@dataclass(frozen=True, slots=True)
class Words:
    """`default` says in words what happens where no value is the default; `off` what a flag
    `--no-...` does.
    """

    help: str
    flag: str = ""
    default: str = ""
    example: Any = None
    off: str = ""


_NAME = "How this node calls itself to people; its key stays its identity."
_REGION = "Where this node stands, in the operator's own words, such as eu-west."
_SOCKET = (
    "The address at which {} reach this {}, TCP and UDP alike; port 0 takes a free port at "
    "the first start and keeps it."
)
_TRANSPORTS = "What links are made of, best first; a pair of nodes takes the best that both have."
_ID_EXAMPLE = ("7d5a5a0f1c9a1b7e53ec0f3a3e0f2bb1a7a4c7f5d2e8b6930415263748596a7b",)
_OTHER_ID_EXAMPLE = ("0c8e3f1d5b7a9246810fedcba9876543210f1e2d3c4b5a69788796a5b4c3d2e1",)
_TICKET = (
    "helexaagbkc3weeb6vuwqpdsnbw7st5qhtupqpfoy2pjgh6xjornutaqksmn"
    "2ilfvhxilbqgsgs4tpnci24mjzgixdalrsfy3tuojqguyngwjusa"
)
_RELAY = "Relays that carry links between nodes which cannot reach each other; none by default."

_REALM = (
    "Whom to see on the local network: nodes of another realm stay unseen, and do not see this."
)

WORDS: Final[Mapping[str, Words]] = {
    "home": Words(
        "The folder that holds all state: keys, database, models, logs.",
        "--home",
        default="$XDG_DATA_HOME/helexa, else ~/.local/share/helexa",
    ),
    "log_level": Words("The least important log events to show.", "--log-level"),
    "log_format": Words("Logs for people, or one JSON object a line.", "--log-format"),
    "cortex.mesh_socket": Words(_SOCKET.format("other nodes", "one"), "--mesh-socket"),
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
    "cortex.gateway_tls_cert": Words(
        "The gateway's certificate and those that signed it, as PEM; read again when it changes.",
        "--gateway-tls-cert",
        default="plain HTTP",
        example=Path("/etc/helexa/gateway.crt.pem"),
    ),
    "cortex.gateway_tls_key": Words(
        "The key of that certificate, as PEM without a passphrase.",
        "--gateway-tls-key",
        default="plain HTTP",
        example=Path("/etc/helexa/gateway.key.pem"),
    ),
    "cortex.cors_origins": Words(
        "Web pages whose scripts may use the gateway from a browser; * is every page.",
        example=("https://app.example.org",),
    ),
    "cortex.name": Words(_NAME, "--name"),
    "cortex.region": Words(_REGION, "--region"),
    "cortex.policy": Words("How a neuron is chosen for a request."),
    "cortex.body_bytes_max": Words(
        "A larger request body is refused with 413 before it is read; pictures fit, films do not."
    ),
    "cortex.bodies_bytes_max": Words(
        "Memory for the bodies of all requests under way; one that finds no room is refused "
        "with 503."
    ),
    "cortex.header_bytes_max": Words("Larger request headers are refused with 431."),
    "cortex.header_timeout_s": Words(
        "A client that takes longer from the first byte to the end of its headers is dropped."
    ),
    "cortex.body_timeout_s": Words("A client that takes longer to send its body is dropped."),
    "cortex.handshake_timeout_s": Words(
        "A client that takes longer for a TLS handshake is dropped."
    ),
    "cortex.write_stall_s": Words(
        "A client that reads nothing for this long while bytes wait for it is dropped."
    ),
    "cortex.connections_max": Words("Client connections at once; the next is refused with 503."),
    "cortex.tell_served_by": Words(
        "Say in the header x-helexa-served-by which neuron and operator served a request."
    ),
    "cortex.receipts_max": Words(
        "Requests that GET /v1/generation still knows, the newest ones, kept in memory."
    ),
    "cortex.queue_max": Words("Requests in flight per model; the next is refused with 429."),
    "cortex.first_byte_timeout_s": Words(
        "How long a neuron may take to the first byte of its answer, a cold load included."
    ),
    "cortex.keepalive_s": Words(
        "A silent stream gets a comment this often, so that proxies do not cut it."
    ),
    "cortex.health_every_s": Words("How often neurons are asked to report."),
    "cortex.lost_after_s": Words(
        "A neuron silent for this long gets no new requests, and its streams go to others that are "
        "ready."
    ),
    "cortex.shutdown_grace_s": Words("How long running streams may go on after SIGTERM."),
    "cortex.relays": Words(_RELAY, example=("https://relay.example.org",)),
    "mesh.join": Words(
        "Tickets of cortexes to begin with; those met later are remembered.",
        "--join",
        default="none",
        example=(_TICKET,),
    ),
    "mesh.dns": Words(
        "Names whose TXT records hold tickets, `helexa=TICKET`; nothing else is looked up.",
        example=("mesh.example.org",),
    ),
    "mesh.lan": Words(
        "Be found, and find others, by multicast DNS; never on a socket bound to loopback.",
        "--no-lan",
        off="neither be found nor find others on the local network",
    ),
    "mesh.realm": Words(_REALM),
    "mesh.preset": Words("How fast members are probed and given up, for the network they share."),
    "mesh.transports": Words(_TRANSPORTS),
    "mesh.admission": Words(
        "Which other cortexes may be members here: any, guests with an invite, those approved by "
        "hand, or those listed alone.",
        "--admission",
    ),
    "mesh.neurons": Words(
        "Which neurons may register here; lan lets in those of this host and its networks."
    ),
    "mesh.allow": Words(
        "Operators or nodes that are let in, whatever the modes say.", example=_ID_EXAMPLE
    ),
    "mesh.deny": Words(
        "Operators or nodes that never are; beats all else.", example=_OTHER_ID_EXAMPLE
    ),
    "mesh.trust": Words(
        "Operators or nodes that are let in and trusted; [federation] names the levels.",
        example=_ID_EXAMPLE,
    ),
    "mesh.members_max": Words(
        "Cortexes to know at once; beyond, strangers make room for those known by name."
    ),
    "federation.lend_to": Words("The lowest trust level whose requests are served here."),
    "federation.lend_classes": Words("Workload classes served for others.", example=("!chat_*",)),
    "federation.lend_models": Words("Models served for others.", example=("team/*",)),
    "federation.lend_regions": Words(
        "Regions of cortexes whose requests are served.", example=("eu-*",)
    ),
    "federation.lend_concurrency": Words(
        "Requests of one operator at once; the next is refused with 429."
    ),
    "federation.lend_rate_per_minute": Words(
        "Requests of one operator a minute; the next is refused with 429; 0 sets no limit."
    ),
    "federation.price_prompt": Words("Nano-credits that others are asked for a prompt token."),
    "federation.price_completion": Words(
        "Nano-credits that others are asked for a generated token."
    ),
    "federation.borrow_from": Words("The lowest trust level of cortexes that may be asked."),
    "federation.borrow_classes": Words(
        "Workload classes asked of others.", example=("!embedding",)
    ),
    "federation.borrow_models": Words("Models asked of others.", example=("!team/secret-*",)),
    "federation.borrow_regions": Words(
        "Regions of cortexes that may be asked; requests never go elsewhere.", example=("eu-*",)
    ),
    "federation.borrow_price_max": Words(
        "Nano-credits to pay at most for a token, of either kind.",
        default="no limit",
        example=2_000,
    ),
    "federation.order": Words("Which of those that may serve a request is taken first."),
    "federation.hops_max": Words(
        "Cortexes that a request may pass after the one it came to; 0 turns borrowing off."
    ),
    "orchestrator.provision": Words(
        "Load, unload and place models by demand.",
        "--no-provision",
        off="load and unload models by hand alone",
    ),
    "orchestrator.idle_timeout_s": Words(
        "A model that nobody asked for this long is unloaded; 0 keeps all."
    ),
    "orchestrator.max_wait_s": Words(
        "How long a request waits for its model to be loaded; then 503 with how far it is."
    ),
    "orchestrator.swap_after_s": Words(
        "How long requests for a cold model gather before a model in use gives way to it."
    ),
    "orchestrator.stay_s": Words(
        "A model that was loaded for waiting requests stays at least this long."
    ),
    "orchestrator.settle_s": Words(
        "After a start nothing is moved for this long unless a request waits: neurons come back."
    ),
    "orchestrator.scale_up_queue_s": Words(
        "Mean wait for a slot above which one more replica is loaded."
    ),
    "orchestrator.scale_down_after_s": Words(
        "How long a replica must have been superfluous before it is unloaded."
    ),
    "orchestrator.load_timeout_s": Words("A load that takes longer is given up."),
    "orchestrator.share_pieces": Words(
        "Whose neurons give one another the weights of models: those of this operator, of trusted "
        "ones, of any, or of nobody."
    ),
    "responses.retain_s": Words(
        "How long a response is kept; then it is deleted. 0 keeps none.",
        off="keep no responses",
    ),
    "responses.stored_bytes_max": Words(
        "Of all responses that are kept, about; the oldest are deleted first."
    ),
    "responses.account_bytes_max": Words("The same of one account's."),
    "survival.resume": Words(
        "Have another replica of the same weights go on with a stream that broke off.",
        off="end a stream that breaks off with an error",
    ),
    "survival.resume_attempts_max": Words("Times that one stream may break off."),
    "survival.resume_within_s": Words("How long somebody is looked for who goes on."),
    "survival.resume_bytes_max": Words(
        "An answer that is longer, as events, is not gone on with: some sixty thousand tokens."
    ),
    "survival.resume_bytes_total_max": Words(
        "Kept of all answers under way, packed, beside 64 KiB of each; above, the longest are "
        "not gone on with."
    ),
    "survival.hedge_after_s": Words(
        "Where no first byte came for this long, a second node is asked as well, and the quicker "
        "one answers; 0: never. It costs the work of two."
    ),
    "survival.eject_failures": Words(
        "After so many failures in a row a model at one node is passed over for a while; 0: never."
    ),
    "survival.eject_share": Words(
        "As well when this part of its last twenty requests failed, from ten on."
    ),
    "survival.eject_s": Words(
        "How long, until one request tries it again; doubled each time that fails, too."
    ),
    "survival.eject_s_max": Words("The longest that it is passed over at a time."),
    "limits.requests_per_s": Words("Requests a second of each key."),
    "limits.requests_burst": Words(
        "Requests of a key at once, after a pause; 0: those of a second, and at least one."
    ),
    "limits.tokens_per_minute": Words("Tokens a minute of each key, of prompts and answers."),
    "limits.concurrent": Words("Requests of a key at once, those that wait included."),
    "limits.models": Words("Models that a key may ask for.", example=("team/*",)),
    "limits.prompt_tokens_max": Words("The longest prompt of a key, as estimated by its size."),
    "limits.output_tokens_max": Words(
        "The longest answer of a key; a request that asks for more is refused, one that sets no "
        "end gets this one."
    ),
    "limits.fair": Words(
        "Share a busy model's tokens between accounts; off: first come, first served."
    ),
    "limits.credit_tokens": Words(
        "By how many tokens an account that comes back may be ahead of those that wait always."
    ),
    "limits.bulk_share": Words(
        "The part of a busy model's tokens that bulk requests get while interactive ones wait."
    ),
    "limits.overcommit": Words(
        "Requests sent to a model beyond its slots, as a part of them, so that no slot idles."
    ),
    "limits.lent": Words(
        "When requests of other operators are served: after own clients or beside."
    ),
    "limits.lent_weight": Words(
        "The weight of another operator beside an own account, which has 1."
    ),
    "limits.anonymous": Words("Serve requests without a key from what nobody else wants."),
    "limits.anonymous_requests_per_minute": Words(
        "Requests a minute of one address without a key."
    ),
    "limits.anonymous_tokens_per_minute": Words("Tokens a minute of one address without a key."),
    "limits.anonymous_concurrent": Words("Requests at once of one address without a key."),
    "limits.anonymous_output_tokens_max": Words("The longest answer without a key."),
    "limits.anonymous_models": Words(
        "Models that may be asked for without a key.", example=("helexa-demo",)
    ),
    "models.id": Words(
        "What clients put into `model`.",
        default="none: it has to be given",
        example="team/model-7b",
    ),
    "models.description": Words("For people, in listings."),
    "models.source": Words(
        "Where a neuron fetches the weights; empty: only neurons that have the model serve it.",
        example="hf:OWNER/REPO",
    ),
    "models.files": Words(
        "The files to take from the source; empty: the neuron takes a single model of "
        "`quantisation`.",
        example=(SourceFile(name="model-7b.Q4_K_M.gguf", size=4 << 30),),
    ),
    "models.quantisation": Words("Which of a source's variants.", example="Q4_K_M"),
    "models.runtime": Words("The runtime by name; empty: the first that can.", example="llama_cpp"),
    "models.arguments": Words(
        "For the runtime; one that it does not know is refused when it loads.",
    ),
    "models.context_tokens": Words(
        "Context per request.", default="what the neuron is set to", example=8192
    ),
    "models.slots": Words(
        "Requests served at once by one replica.", default="what the neuron is set to", example=4
    ),
    "models.deterministic": Words(
        "Answers do not depend on what else runs; costs speed.",
        default="what the neuron is set to",
        example=True,
    ),
    "models.memory_bytes": Words(
        "Memory that it needs, for placing it before any neuron has read its files; 0 goes by "
        "the size of the files.",
    ),
    "models.replicas_min": Words("Replicas that are kept loaded without anyone asking."),
    "models.replicas_max": Words(
        "Replicas at most.", default="as many as there are neurons for it", example=2
    ),
    "models.labels": Words(
        "A neuron that runs it has all of these labels.", example={"rack": "a3"}
    ),
    "models.regions": Words("Regions of neurons that may run it; empty: any.", example=("eu-*",)),
    "models.operators": Words(
        "Operators of neurons that may run it; empty: any.", example=_ID_EXAMPLE
    ),
    "models.nodes": Words("The only neurons that may run it; empty: any.", example=("gpu-1",)),
    "models.priority": Words(
        "An idle model may be unloaded for one of its own priority or a higher one."
    ),
    "models.keep_warm": Words(
        "Never unloaded because nobody asks; still unloaded for one that may displace it."
    ),
    "models.idle_timeout_s": Words(
        "Unloaded after so long without a request; 0: never.",
        default="orchestrator.idle_timeout_s",
        example=3600.0,
    ),
    "models.aliases": Words(
        "Other names. Models may share one: requests then go by weight.",
        example=(Alias(name="chat"), Alias(name="team/default", weight=2.0)),
    ),
    "models.fallbacks": Words(
        "Models or aliases of this catalogue to ask, in this order, when this one cannot be served."
    ),
    "models.price": Words(
        "What a token costs where the neuron asks nothing itself, in nano-credits.",
        default="none",
        example=Price(prompt_uncached=100, prompt_cached=10, completion=400, reasoning=400),
    ),
    "models.classes": Words(
        "Kinds of work that it is used for; empty: all that it can do.",
        example=(WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.COMPLETION),
    ),
    "models.queue_max": Words(
        "Requests for it in flight; the next is refused with 429.",
        default="cortex.queue_max",
        example=64,
    ),
    "models.max_wait_s": Words(
        "How long a request waits for it to be loaded.",
        default="orchestrator.max_wait_s",
        example=300.0,
    ),
    "models.pin": Words("Neurons never remove its files to make room on the disk."),
    "neuron.control_socket": Words(_SOCKET.format("cortexes", "neuron"), "--control-socket"),
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
        "Cortexes to register with.",
        "--cortex",
        default="none: those of the local network, if neuron.lan",
    ),
    "neuron.name": Words(_NAME, "--name"),
    "neuron.region": Words(_REGION, "--region"),
    "neuron.labels": Words("Free marks that policies may look at.", example={"rack": "a3"}),
    "neuron.demo_models": Words(
        "Whether the demonstration models that come with helexa are offered.",
        "--no-demo-models",
        off="leave out the demonstration models",
    ),
    "neuron.preload": Words("Models to load at start.", "--preload", example=("helexa-demo",)),
    "neuron.memory_limit": Words(
        "Memory that all models together may use; 0 takes what the machine or container has."
    ),
    "neuron.memory_reserve": Words("Memory left to the rest of the machine."),
    "neuron.disk_limit": Words(
        "What the models folder may take of the disk; 0 takes what is free. Pulled models that are "
        "neither pinned nor loaded leave for others."
    ),
    "neuron.disk_reserve": Words("What a pull leaves free on the disk."),
    "neuron.pulls_max": Words("Models pulled at once; the others wait in order."),
    "neuron.pull_connections": Words("Connections for each file that is pulled."),
    "neuron.pull_stall_s": Words(
        "A connection that brings nothing for this long is given up for another."
    ),
    "neuron.hub": Words("The hub that hf: sources are asked of; a mirror, for example."),
    "neuron.hub_token_file": Words(
        "A file that holds the hub's token and is readable by its owner alone; the token goes to "
        "the hub and to nobody else.",
        default="no token",
        example=Path("hub.token"),
    ),
    "neuron.file_folders": Words(
        "Folders whose files file: sources may name, besides the models folder.",
        example=(Path("/srv/weights"),),
    ),
    "neuron.share_devices": Words(
        "Several models may be on one device, each within its bytes; else a device belongs to one "
        "model."
    ),
    "neuron.pin_cpus": Words(
        "Every model runs on cores of its own, as many as its `threads`, else half of them."
    ),
    "neuron.context_tokens": Words(
        "Context per request where a model does not say; never above what it was trained for."
    ),
    "neuron.slots": Words("Requests served at once by one loaded model."),
    "neuron.make_room": Words(
        "Whether idle models leave for one that is asked of this neuron's own API and does not "
        "fit beside them; requests of cortexes never do that."
    ),
    "neuron.stay_s": Words("A model that has just been loaded does not make room before."),
    "neuron.idle_timeout_s": Words(
        "Unload a model that nobody used for this long; 0 never does, and cortexes decide."
    ),
    "neuron.sandbox": Words(
        "What runtimes are put into: bubblewrap hides files, processes and the network from them, "
        "systemd limits their memory; docs/isolation.md."
    ),
    "neuron.sandbox_readable": Words(
        "What they may read there besides the system, their model and their engine.",
        example=(Path("/opt/engines"),),
    ),
    "neuron.child_nice": Words(
        "How far the runtimes stand back when other programs want the processor, 0 to 19."
    ),
    "neuron.child_memory_factor": Words(
        "A runtime that takes more than so many times the memory granted to it, and a GiB, is "
        "ended and started again; 0 sets no limit."
    ),
    "neuron.child_file_bytes_max": Words(
        "The largest file that a runtime may write; 0 sets no limit."
    ),
    "neuron.queue_max": Words("Requests waiting per model; the next is refused with 429."),
    "neuron.body_bytes_max": Words("A larger request body is refused with 413."),
    "neuron.images_max": Words("Pictures in one request; more are refused with 400."),
    "neuron.image_bytes_max": Words("A larger picture is refused with 400."),
    "neuron.image_pixels_max": Words(
        "A picture that would be larger once decoded is refused with 400, by its header."
    ),
    "neuron.images_pixels_max": Words(
        "Pictures of a request with more pixels together are refused with 400. Memory to "
        "decode this many in each slot is kept free for a model that sees."
    ),
    "neuron.image_urls": Words(
        "Fetch pictures from the http(s) URLs that clients name; off: only `data:` URLs. The "
        "neuron connects by itself, without a proxy, and to public addresses alone."
    ),
    "neuron.image_url_hosts": Words(
        "The only hosts that pictures are fetched from; empty: every public one.",
        example=("*.example.org",),
    ),
    "neuron.image_url_ports": Words("The only ports that pictures are fetched from."),
    "neuron.image_url_networks": Words(
        "Networks that pictures may be fetched from although they are not public, such as that "
        "of an own store; any client can then ask for what is there.",
        example=("10.4.0.0/24",),
    ),
    "neuron.image_url_timeout_s": Words("How long fetching one picture may take."),
    "neuron.keepalive_s": Words(
        "A silent stream gets a comment this often, so that proxies do not cut it."
    ),
    "neuron.shutdown_grace_s": Words("How long running requests may go on after SIGTERM."),
    "neuron.relays": Words(_RELAY, example=("https://relay.example.org",)),
    "neuron.lan": Words(
        "Look for cortexes by multicast DNS when none is named; never from loopback.",
        "--no-lan",
        off="do not look for cortexes on the local network",
    ),
    "neuron.realm": Words(_REALM),
    "neuron.transports": Words(_TRANSPORTS),
    "neuron.models.context_tokens": Words(
        "Context per request for this model.", default="neuron.context_tokens", example=4096
    ),
    "neuron.models.slots": Words(
        "Requests served at once by this model.", default="neuron.slots", example=8
    ),
    "neuron.models.deterministic": Words(
        "Answers do not depend on what else runs; costs speed.", default="false", example=True
    ),
    "neuron.models.runtime": Words(
        "What runs this model.", default="the first that serves its files", example="llama_cpp"
    ),
    "neuron.models.arguments": Words(
        "`NAME=VALUE` for that runtime; docs/operations.md lists them.",
        default="none",
        example=("n_ubatch=1024", "cache_type_k=q8_0"),
    ),
    "neuron.models.dimensions": Words(
        "Lengths besides the whole one that clients may have its vectors cut to: those that the "
        "model was trained for.",
        default="what its files say",
        example=(256, 128),
    ),
    "neuron.models.devices": Words(
        "The devices that this model runs on, by number or UUID; [] is the processor alone.",
        default="as many as it needs, of those that are free",
        example=("0", "1"),
    ),
    "neuron.models.device_count": Words(
        "On how many devices it runs.", default="as few as hold it", example=2
    ),
    "neuron.models.devices_shared": Words(
        "Its devices may hold other models that share, too.",
        default="neuron.share_devices",
        example=True,
    ),
    "neuron.models.or_cpu": Words(
        "It runs on the processor where no device is free for it.", default="false", example=True
    ),
    "neuron.models.cpus": Words(
        "The CPUs that it runs on.", default="all, or its own by neuron.pin_cpus", example="0-7"
    ),
    "neuron.models.server": Words(
        "Whose command, of [neuron.servers], runs these files.", default="none", example="sglang"
    ),
    "neuron.runtime_order": Words(
        "The first of these that serves a model's files and is installed runs it; those that are "
        "not named come after them.",
        default="openai_compatible, llama_cpp, vllm, mistral_rs, transformers",
        example=("llama_cpp",),
    ),
    "neuron.runtimes.python": Words(
        "The interpreter of an environment that has the engine.",
        default="the neuron's own",
        example=Path("/opt/vllm/bin/python"),
    ),
    "neuron.runtimes.program": Words(
        "An executable in place of the packaged engine, where the runtime can take one.",
        default="none",
        example=Path("/opt/llama.cpp/bin/llama-server"),
    ),
    "neuron.runtimes.arguments": Words(
        "Further words for the engine's command line, passed as they are.",
        default="none",
        example=("--enable-prefix-caching",),
    ),
    "neuron.runtimes.environment": Words(
        "Variables for the engine. It gets none of the neuron's own but PATH, HOME and the locale.",
        default="none",
        example={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    ),
    "neuron.servers.url": Words(
        "Where a server that runs already answers, up to before `/chat/completions`.",
        default="none",
        example="http://127.0.0.1:11434/v1",
    ),
    "neuron.servers.command": Words(
        "In place of a URL, a command that starts a server for one model; {weights}, {model}, "
        "{port}, {socket}, {secret}, {context_tokens}, {slots} and {devices} are filled in.",
        default="none",
        example=(
            "python3",
            "-m",
            "sglang.launch_server",
            "--model-path",
            "{weights}",
            "--port",
            "{port}",
        ),
    ),
    "neuron.servers.key_file": Words(
        "A file with the key that the server is shown.", default="none", example=Path("ollama.key")
    ),
    "neuron.servers.models": Words(
        "Which of its models are served: the name here, and its name there.",
        default="all that it lists, under their own names",
        example={"llama3": "llama3.2:3b"},
    ),
    "neuron.servers.offers": Words(
        "What its models can do, where the server does not say: kinds of work and abilities.",
        default="chat and completions",
        example=("chat", "vision", "tools"),
    ),
    "neuron.servers.context_tokens": Words(
        "Context of its models, where the server does not say.",
        default="neuron.context_tokens",
        example=8192,
    ),
    "neuron.servers.slots": Words(
        "Requests sent to each of its models at once.", default="neuron.slots", example=16
    ),
    "neuron.servers.environment": Words(
        "Variables for the command.", default="none", example={"OMP_NUM_THREADS": "4"}
    ),
    "neuron.servers.ready_path": Words(
        "What answers 200 once it serves.", default="`/models` below the URL", example="/health"
    ),
    "neuron.servers.ready_within_s": Words(
        "How long it may take until it serves.",
        default="5 for a URL, 300 for a command",
        example=60.0,
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
