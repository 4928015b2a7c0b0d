"""One choice of one answer, token by token: transformers' own loop, in a thread that can be ended.

`generate` knows how each architecture keeps what it has read, and calls back after every
token; it cannot hand tokens out. So it runs in a thread of its own, and what it calls back
with goes through a queue. Between two tokens others have their turn, and an answer that
nobody wants any more ends.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Mapping
from typing import Any

import torch
from torch import Tensor

from .choosing import Chooser, Chosen
from .turns import Turns


class Decoding:
    """A criterion for stopping, to `generate`; an iterator of tokens, to whoever wants them."""

    def __init__(self, turns: Turns, chooser: Chooser) -> None:
        self._turns = turns
        self._chooser = chooser
        self._tokens: queue.SimpleQueue[Chosen | BaseException | None] = queue.SimpleQueue()
        self._is_wanted = True

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        del scores
        chosen = self._chooser.chosen
        assert chosen is not None
        self._tokens.put(chosen)
        if self._is_wanted:
            self._turns.yield_to_others()
        done = not self._is_wanted
        return torch.full((input_ids.shape[0],), done, dtype=torch.bool, device=input_ids.device)

    def run(
        self, model: Any, inputs: Mapping[str, Tensor], config: Any
    ) -> Generator[Chosen, None, None]:
        """Closing it ends the thread, after the step that it is in."""
        thread = threading.Thread(target=self._generate, args=(model, inputs, config))
        thread.start()
        try:
            while (token := self._tokens.get()) is not None:
                if isinstance(token, BaseException):
                    raise token
                yield token
        finally:
            self._is_wanted = False
            thread.join()

    def _generate(self, model: Any, inputs: Mapping[str, Tensor], config: Any) -> None:
        try:
            with torch.inference_mode(), self._turns.mine():
                if self._is_wanted:
                    model.generate(
                        **inputs,
                        generation_config=config,
                        logits_processor=[self._chooser],
                        stopping_criteria=[self],
                    )
        except BaseException as error:  # noqa: BLE001 - it is raised again by whoever reads the tokens
            self._tokens.put(error)
        else:
            self._tokens.put(None)
