"""One filled example of every message, kept as bytes for every released version.

Fields are given values that differ from their defaults, so that a renamed or
retyped field cannot hide behind one.
"""

from __future__ import annotations

from helexa.protocol import gossip as g
from helexa.protocol import messages as m
from helexa.protocol import records as r
from helexa.protocol import work as w

NODE, OPERATOR = "ab" * 32, "cd" * 32
DEVICE = w.Device(
    index=1,
    vendor="nvidia",
    name="H200",
    memory_bytes=1 << 37,
    memory_free_bytes=1 << 36,
    driver="570",
)
DESCRIPTOR = w.NeuronDescriptor(
    node=NODE,
    operator=OPERATOR,
    version="1.2.3",
    hardware=w.Fingerprint(
        machine="x86_64",
        system="Linux",
        cpu_model="EPYC",
        cpus=1.5,
        memory_bytes=1 << 34,
        devices=(DEVICE,),
    ),
    name="attic",
    region="eu",
    labels={"rack": "7"},
)
CAPABILITY = w.ModelCapability(
    model="org/model",
    state=w.ModelState.LOADED,
    digest="sha256:00",
    runtime="llama_cpp",
    architecture="llama",
    parameters=7_000_000_000,
    quantisation="Q8_0",
    classes=(w.WorkloadClass.CHAT_INTERACTIVE, w.WorkloadClass.VISION),
    modalities=(w.Modality.TEXT, w.Modality.IMAGE),
    context_tokens=8_192,
    slots=4,
    tools=True,
    structured_output=True,
    reasoning=True,
    memory_bytes=1 << 33,
    tokens_per_s=41.5,
    price=w.Price(prompt_uncached=1, prompt_cached=2, completion=3, reasoning=4),
    reason="why",
)
LOAD = w.Load(
    sequence=9,
    uptime_s=12.5,
    cpu_share=0.25,
    memory_used_bytes=10,
    memory_free_bytes=20,
    replicas=(w.ReplicaLoad(model="org/model", running=1, waiting=2, slots=4),),
    draining=True,
)
PATH = w.DataPath(kind="unix", address="/run/x.sock", token="t", host="h")

EXAMPLES = (
    m.Hello(role=m.Role.CORTEX, lowest=1, highest=3, agent="helexa 1.2.3", operator=OPERATOR),
    m.Ok(),
    m.Refused(code="no_capacity", message="full", retry_after_s=5),
    m.Unsupported(tag="later.thing"),
    m.Register(descriptor=DESCRIPTOR, capabilities=(CAPABILITY,), paths=(PATH,)),
    m.Registered(health_every_s=1.5, lost_after_s=4.5, name="cortex"),
    m.AnnounceCapabilities(capabilities=(CAPABILITY,)),
    m.ReportHealth(load=LOAD),
    m.ProvisioningResponse(
        command="c1",
        model="org/model",
        state=w.ModelState.DOWNLOADING,
        final=False,
        reason="r",
        bytes_done=1,
        bytes_total=2,
        eta_s=3.5,
    ),
    m.Goodbye(reason="restart"),
    m.UpsertModelConfig(
        command="c2",
        model="org/model",
        config=m.ModelConfig(context_tokens=4_096, slots=2, deterministic=True),
    ),
    m.LoadModel(command="c3", model="org/model"),
    m.UnloadModel(command="c4", model="org/model", grace_s=7.5),
    m.PullModel(
        command="c5",
        model="org/model",
        source=m.ModelSource(
            source="hf:org/model@main",
            files=(m.SourceFile(name="a.gguf", sha256="0f" * 32, size=7),),
            quantisation="Q8_0",
        ),
        peers=(m.PieceHolder(node=NODE, ticket="helexaabc"),),
        pin=True,
    ),
    m.CancelPull(command="c6", model="org/model"),
    m.RemoveModel(command="c7", model="org/model"),
    m.SharePieces(model="org/model", peers=(m.PieceHolder(node=NODE, ticket="helexaabc"),)),
    m.ExecuteRequest(request="req_1", model="org/model", workload=w.WorkloadClass.EMBEDDING),
    m.Cancel(request="req_1"),
    m.Drain(enabled=False),
    m.RequestCapabilities(),
    m.RequestHealth(),
    m.ReportOffers(
        offers=(
            r.Offer(
                model="org/model",
                digest="sha256:ab",
                classes=(w.WorkloadClass.CHAT_INTERACTIVE,),
                context_tokens=4_096,
                slots=4,
                free=2,
                ready=True,
                tokens_per_s=12.5,
                tools=True,
                price=w.Price(prompt_uncached=1, completion=2),
            ),
        ),
        withheld=(
            m.Withheld(reason="lend_classes", models=("m",), classes=(w.WorkloadClass.EMBEDDING,)),
        ),
    ),
    g.Probe(nonce=7, chosen=True, prove=8, heads=b"h" * 18, statements=(b"s",)),
    g.Ack(nonce=7, clock_s=1_700, reached=False, proof=b"p", heads=b"h" * 18, statements=(b"s",)),
    g.Relay(nonce=7, target=NODE),
    g.News(heads=b"h" * 18, statements=(b"s", b"t")),
    g.Digest(sums=b"d" * 1_024),
    g.Bucket(numbers=b"\x00\xff", heads=b"h" * 18),
    g.Want(shorts=b"w" * 8),
    g.Records(records=(b"r",), statements=(b"s",)),
)
