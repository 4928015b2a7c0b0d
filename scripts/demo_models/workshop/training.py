"""The training loop: batches of few shapes, Muon for matrices, Adam for the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

IGNORED = -100


@dataclass(frozen=True)
class Example:
    """Tokens and, for each, whether the model should learn to write it."""

    tokens: list[int]
    learned: list[bool]


def orthogonal(update: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrix, by the Newton-Schulz iteration of the Muon optimiser."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = update.shape[0] > update.shape[1]
    x = update.T if tall else update
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are made orthogonal; for weight matrices only."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        rate: float,
        momentum: float = 0.95,
        decay: float = 0.0,
    ) -> None:
        """Take the matrices to train."""
        super().__init__(list(matrices), {"lr": rate, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # noqa: ARG002 - the base class has it
        """Move every matrix."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:  # a part that this phase does not train
                    continue
                state = self.state[matrix]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(matrix)
                velocity = state["momentum"].mul_(group["momentum"]).add_(matrix.grad)
                update = orthogonal(matrix.grad + group["momentum"] * velocity)
                scale = group["lr"] * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.mul_(1 - scale * group["decay"]).sub_(update, alpha=scale)


def optimisers(model: nn.Module, muon_rate: float, adam_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the inner matrices, Adam for embeddings, norms and biases."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embedding" not in name else others).append(parameter)
    return [
        Muon(matrices, muon_rate, decay=0.02),
        torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def schedule(done: float) -> float:
    """Share of the full rate: a short rise, a long flat, and a fall to nothing in the last 40 %."""
    return min(1.0, done / 0.01 + 0.05, (1.0 - done) / 0.4)


LENGTHS = (32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 448, 640, 1024, 1536, 2048)


def batches(examples: Iterable[Example], tokens_max: int) -> Iterator[tuple[int, list[Example]]]:
    """Batches of few fixed shapes: little padding, and the CPU kernels are prepared only once."""
    waiting: dict[int, list[Example]] = {length: [] for length in LENGTHS}
    for example in examples:
        length = next(length for length in LENGTHS if len(example.tokens) - 1 <= length)
        group = waiting[length]
        group.append(example)
        if len(group) >= max(2, tokens_max // length):
            waiting[length] = []
            yield length, group


def tensors(length: int, group: list[Example]) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a batch, padded on the right."""
    inputs = torch.zeros(len(group), length, dtype=torch.long)
    targets = torch.full((len(group), length), IGNORED, dtype=torch.long)
    for row, example in enumerate(group):
        tokens = torch.tensor(example.tokens)
        wanted = torch.where(torch.tensor(example.learned), tokens, IGNORED)
        inputs[row, : len(tokens) - 1] = tokens[:-1]
        targets[row, : len(tokens) - 1] = wanted[1:]
    return inputs, targets


def token_loss(features: Tensor, output: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy over the learned tokens only."""
    learned = targets != IGNORED
    logits = functional.linear(features[learned], output.to(features.dtype))
    return functional.cross_entropy(logits.float(), targets[learned])


class Average:
    """A running average of the weights; what is shipped is the average, not the last step."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the model as it is."""
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Move a little towards the model."""
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.weights[name].lerp_(value, 1 - self.decay)


def fit(
    model: nn.Module,
    next_loss: Callable[[], Tensor],
    *,
    steps: int,
    muon_rate: float,
    adam_rate: float,
    report: Callable[[str], None],
    checkpoint: Callable[[dict[str, Tensor], int], None] | None = None,
    checkpoint_every: int = 1000,
) -> dict[str, Tensor]:
    """Train for a number of steps; return the averaged weights."""
    engines = optimisers(model, muon_rate, adam_rate)
    full = [[group["lr"] for group in engine.param_groups] for engine in engines]
    average = Average(model, 0.995)
    started, recent = time.monotonic(), math.nan
    for step in range(steps):
        share = schedule(step / steps)
        for engine, rates in zip(engines, full, strict=True):
            for group, rate in zip(engine.param_groups, rates, strict=True):
                group["lr"] = rate * share
        loss = next_loss()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for engine in engines:
            engine.step()
        model.zero_grad(set_to_none=True)
        average.follow(model)
        value = loss.item()
        recent = value if math.isnan(recent) else 0.98 * recent + 0.02 * value
        if step % 100 == 99:
            report(
                f"step {step + 1}/{steps}  loss {recent:.4f}  {time.monotonic() - started:.0f} s"
            )
        if checkpoint and step % checkpoint_every == checkpoint_every - 1:
            checkpoint(average.weights, step + 1)
    return average.weights
