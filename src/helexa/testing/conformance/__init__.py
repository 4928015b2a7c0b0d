"""What every runtime has to do behind its adapter, tried on a neuron that runs.

One adapter, its real engine, one model, and cases that are clients of the neuron's HTTP API:

    .venv/bin/python -m helexa.testing.conformance --runtime mistral_rs
        --models /srv/models --model helexa-demo

prints a table and, for what failed, why; it exits with 1 where anything failed. Further
options: `--set KEY=VALUE` for any setting of a neuron (`--set
runtimes.vllm.python=/opt/vllm/bin/python`, `--set slots=4`, a TOML value), `--only WORD` for
the cases whose row or name has that word,
`--patience S` for slow engines, `--cannot ROW=REASON` for what this machine cannot show. The
shipped demo models need no `--models`; of `helexa-demo` and of folders whose name begins so,
the answers are known word by word.

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
