"""What every runtime has to do behind its adapter, tried on a neuron that runs.

One adapter, its real engine, one model, and cases that are clients of the neuron's HTTP API:

    .venv/bin/python -m helexa.testing.conformance --runtime mistral_rs
        --models /srv/models --model helexa-demo

prints a table and, for what failed, why; it exits with 1 where anything failed. Further
options:

    --set KEY=VALUE     any setting of a neuron, such as runtimes.vllm.python=/opt/vllm/bin/python
    --argument A=B      for the runtime, as in `arguments` of a model
    --only WORD         the cases whose row or name has that word
    --cannot ROW=WHY    what this machine cannot show
    --knows KIND        how right answers are told: demo, demo-vision, echo, any
    --patience S        for one answer of a slow engine, which may have to load for it
    --results FILE      keep what was found, as JSON; --write docs/runtimes: in the matrix
    --usual [NAME ...]  instead of --runtime: what this repository can try by itself

The shipped demo models need no `--models`; of `helexa-demo`, and of models whose names begin
so, the answers are known word by word.

From pytest:

    found = anyio.run(conformance.look, "mistral_rs", "helexa-demo", models_dir)
    assert not found.failures

Each case belongs to a row of the matrix in docs/runtimes. Where the replica declares what the
row names, the cases have to pass: `yes`. Where it does not, asking for it has to be refused
with a 400 that names the runtime, before the engine is asked for anything: `no`. What this
machine or this model cannot show is `not testable here`, with the reason. Anything else is a
failure of the runtime or of its adapter.
"""

from helexa.testing.conformance import engines, page
from helexa.testing.conformance.case import CASES, Case
from helexa.testing.conformance.findings import Findings, Outcome, Verdict
from helexa.testing.conformance.run import conform, look
from helexa.testing.conformance.stage import staged
from helexa.testing.conformance.subject import NotTestable, Refused, Subject

__all__ = [
    "CASES",
    "Case",
    "Findings",
    "NotTestable",
    "Outcome",
    "Refused",
    "Subject",
    "Verdict",
    "conform",
    "engines",
    "look",
    "page",
    "staged",
]
