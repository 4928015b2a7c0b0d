"""A Llama as llama.cpp runs it, in plain PyTorch; input and output embeddings are one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    context_tokens: int = 2048
    rope_base: float = 10000.0
    epsilon: float = 1e-5


FLASH_FROM = 512  # tokens; below it plain attention trains several times faster on a CPU


def rotary_table(shape: Shape, length: int) -> Tensor:
    """The rotation of each position, as complex numbers of length one."""
    size = shape.width // shape.heads
    frequency = shape.rope_base ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate neighbouring pairs, the order that llama.cpp uses for the `llama` architecture."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2).to(x.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
    """Attention, by the kernel that trains faster at this length."""
    length = query.shape[-2]
    if length >= FLASH_FROM:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if causal:
        scores = scores + torch.full((length, length), -torch.inf, dtype=scores.dtype).triu(1)
    return scores.softmax(-1) @ value


class Linear(nn.Linear):
    """A linear layer that computes in the precision of its input while its weights stay in full."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply and add."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return functional.linear(x, self.weight.to(x.dtype), bias)


class Block(nn.Module):
    """Attention and a gated feed-forward layer."""

    def __init__(self, shape: Shape) -> None:
        """Make the layer's weights."""
        super().__init__()
        self.heads, self.epsilon = shape.heads, shape.epsilon
        self.attn_norm = nn.Parameter(torch.ones(shape.width))
        self.ffn_norm = nn.Parameter(torch.ones(shape.width))
        self.qkv = Linear(shape.width, 3 * shape.width, bias=False)
        self.out = Linear(shape.width, shape.width, bias=False)
        self.gate_up = Linear(shape.width, 2 * shape.hidden, bias=False)
        self.down = Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """Add this layer's part to the stream."""
        batch, length, width = x.shape
        normed = functional.rms_norm(x, (width,), self.attn_norm.to(x.dtype), self.epsilon)
        mixed = self.qkv(normed).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key = rotate(mixed[:2], table)
        seen = attend(query, key, mixed[2], causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        normed = functional.rms_norm(x, (width,), self.ffn_norm.to(x.dtype), self.epsilon)
        gate, up = self.gate_up(normed).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class Llama(nn.Module):
    """Token embeddings in, logits out; images enter as embeddings."""

    def __init__(self, shape: Shape) -> None:
        """Make the weights and start them small."""
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.width))
        self.register_buffer("table", rotary_table(shape, shape.context_tokens), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.05)
        for block in self.blocks:
            nn.init.zeros_(block.out.weight)
            nn.init.zeros_(block.down.weight)

    def features(self, embedded: Tensor) -> Tensor:
        """Run the layers over embeddings."""
        table = self.table[: embedded.shape[1]]
        for block in self.blocks:
            embedded = block(embedded, table)
        weight = self.norm.to(embedded.dtype)
        return functional.rms_norm(embedded, (self.shape.width,), weight, self.shape.epsilon)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of every next token."""
        return functional.linear(self.features(self.embedding(tokens)), self.embedding.weight)
