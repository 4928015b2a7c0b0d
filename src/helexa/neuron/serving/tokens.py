"""How a model reads a text or a chat: tokenize and detokenize, in vLLM's shape.

Nothing is generated, so no slot is taken; the model has to run all the same, because only its
engine knows.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from helexa.neuron.serving import lengths
from helexa.neuron.serving.answer import Answer
from helexa.neuron.serving.asking import asked
from helexa.neuron.serving.counting import Fault
from helexa.neuron.serving.fitting import fitted
from helexa.neuron.serving.pictures.judging import Pictures
from helexa.neuron.supervisor.engine import Engine
from helexa.neuron.supervisor.replica import Replica
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.errors import BodyMalformed, CapabilityMissing, RequestRejected
from helexa.protocol.openai import body as bodies
from helexa.protocol.openai import text
from helexa.protocol.work import Usage, WorkloadClass
from helexa.runtime.contract import Chat, Endpoint, RuntimeAdapter, TokenizingAdapter, Tokens
from helexa.runtime.openai import prompts

IDS_MAX: Final = 1 << 20
"""Of one request to detokenize: more than any model reads."""
_OWN: Final = ("add_special_tokens", "return_token_strs", "prompt", "stream", "stream_options")


class TokenWork(enum.Enum):
    """By their path, which is vLLM's with a version before it."""

    TOKENIZE = "/v1/tokenize"
    DETOKENIZE = "/v1/detokenize"


class _Tokenize(msgspec.Struct):
    model: str = ""
    """Empty where a cortex chose one for a request that names several."""
    prompt: str | None = None
    messages: list[msgspec.Raw] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class _Detokenize(msgspec.Struct, kw_only=True):
    model: str = ""
    tokens: list[int]


_tokenize: Final = msgspec.json.Decoder(_Tokenize)
_detokenize: Final = msgspec.json.Decoder(_Detokenize)


class Tokenizing:
    """One request from its body on."""

    used: Usage | None = None
    fault: Fault | None = None

    def __init__(
        self,
        roster: Roster,
        work: TokenWork,
        answer: Answer,
        body: bytes,
        *,
        pictures: Pictures,
        model: str = "",
        displacing: bool = False,
    ) -> None:
        """`model` is the one to serve it by, where that is not the body's."""
        self.replica: Replica | None = None
        self._roster = roster
        self._work = work
        self._answer = answer
        self._body = body
        self._pictures = pictures
        self._model = model
        self._displacing = displacing

    async def run(self) -> None:
        text.check(self._body)
        if self._work is TokenWork.TOKENIZE:
            content = await self._tokenized(bodies.typed(_tokenize, self._body))
        else:
            content = await self._detokenized(bodies.typed(_detokenize, self._body))
        await self._answer.whole(msgspec.json.encode(content))

    async def _tokenized(self, asks: _Tokenize) -> Mapping[str, Any]:
        if (asks.prompt is None) is (asks.messages is None):
            raise BodyMalformed(
                reason="Send either `prompt` or `messages`.",
                field="prompt" if asks.messages is None else "messages",
            )
        replica, adapter = await self._found(asks.model)
        kind = Endpoint.CHAT if asks.prompt is None else Endpoint.COMPLETIONS
        await lengths.check(kind, self._body, replica.spec, times=lengths.COUNTED_TIMES)
        chat = b""
        if asks.messages is not None:
            chat = await self._chat(replica, adapter)
        async with replica.gate.present(), replica.large.turn(len(self._body)):
            engine = await self._roster.engine(replica, displacing=self._displacing)
            spec, special = engine.spec, asks.add_special_tokens
            if asks.prompt is not None:
                asking = adapter.tokens_of_text(asks.prompt, spec, special=special is not False)
            else:
                asking = adapter.tokens_of_chat(chat, spec, special=special)
            found = await asked(engine, asking)
        return _shown(found, engine, with_strings=bool(asks.return_token_strs))

    async def _detokenized(self, asks: _Detokenize) -> Mapping[str, Any]:
        if len(asks.tokens) > IDS_MAX:
            raise BodyMalformed(reason=f"`tokens` are at most {IDS_MAX}.", field="tokens")
        replica, adapter = await self._found(asks.model)
        prompts.check_ids(asks.tokens, "tokens", replica.spec.files.vocabulary)
        async with replica.gate.present():
            engine = await self._roster.engine(replica, displacing=self._displacing)
            said = await asked(engine, adapter.text_of(asks.tokens, engine.spec))
        return {"prompt": said}

    async def _found(self, model: str) -> tuple[Replica, TokenizingAdapter]:
        self._model = self._model or model
        if not self._model:
            raise BodyMalformed("Object missing required field `model`, or it is empty.", "model")
        replica = self.replica = await self._roster.replica(self._model)
        adapter = replica.adapter
        if not isinstance(adapter, TokenizingAdapter):
            raise CapabilityMissing(
                model=self._model, capability="its tokens", runtime=replica.adapter.name
            )
        return replica, adapter

    async def _chat(self, replica: Replica, adapter: RuntimeAdapter | TokenizingAdapter) -> bytes:
        """The body as a chat completion, with its pictures judged and fetched."""
        offered = replica.adapter.serves(replica.spec.files)
        talks = offered is not None and WorkloadClass.CHAT_INTERACTIVE in offered.classes
        if offered is None or not talks or not isinstance(adapter, Chat):
            raise CapabilityMissing(
                model=self._model, capability="chat completions", runtime=replica.adapter.name
            )
        raw = bodies.fields(self._body)
        for name in _OWN:
            raw.pop(name, None)
        body = msgspec.json.encode(raw)
        fit = await fitted(
            Endpoint.CHAT, body, replica.adapter, replica.spec, offered, self._pictures
        )
        # What is wrong with it is said without loading anything.
        adapter.chat(fit.body, replica.spec)
        return fit.body


def _shown(found: Tokens, engine: Engine, *, with_strings: bool) -> Mapping[str, Any]:
    strings = None
    if with_strings:
        if len(found.pieces) != found.count:
            raise RequestRejected(
                reason=f"The runtime {engine.adapter.name} does not say the text of each of these "
                "tokens.",
                field="return_token_strs",
            )
        strings = [one.decode("utf-8", "replace") for one in found.pieces]
    return {
        "count": found.count,
        "max_model_len": engine.spec.context_tokens,
        "tokens": found.ids,
        "token_strs": strings,
    }
