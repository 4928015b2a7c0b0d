"""The control API on the orchestrator socket: what `helexa nodes`, `models` and `explain` call.

Reading order: `calls` (what a call is), `door` (who may call), `routing` (from a path to a
call, from an error to an answer), one file for each resource, `application` (all of them
together), `document` (the OpenAPI document made of the same table).
"""

from helexa.cortex.orchestrator.api.application import application
from helexa.cortex.orchestrator.api.signature import Signatures

__all__ = ["Signatures", "application"]
