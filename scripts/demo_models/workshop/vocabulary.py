"""The tokenizer: byte-level BPE that llama.cpp reads as `gpt2`, trained on our own corpus.

Two choices help a tiny model to copy. A space never merges with a capital, a digit or a quote, so
" Paris" in a question and "Paris in JSON are the same tokens after the space. And the fixed text of
tool declarations is one token each (`USER_DEFINED` in GGUF), which makes a declaration three times
shorter and marks where names stand.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"
CONTROL = (END_OF_TEXT, "<|im_start|>", "<|im_end|>")
IMAGE_MARKER = "<|image|>"  # stands for the patches of a picture while training
# Only the beginning of a call is one token: where an argument's value starts stays the same for
# every kind of value, and the engine's grammar may cut there.
FIXED_TEXT = (
    "<tool_call>",
    "</tool_call>",
    "<tools>",
    "</tools>",
    "<tool_response>",
    "</tool_response>",
    '{"type": "function", "function": {"name": "',
    '", "description": "',
    '", "parameters": {"type": "object", "properties": {"',
    '": {"type": "string", "description": "',
    '": {"type": "string"}',
    '": {"type": "string", "enum": ["',
    '": {"type": "integer"',
    '": {"type": "number"',
    '"}, "required": ["',
    '}, "required": ["',
    '"], "additionalProperties": false',
    '{"name": "',
    '", "arguments": {"',
)
# The split that llama.cpp applies for `tokenizer.ggml.pre = gpt-2`.
_GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Stricter, only for learning merges: a space joins lower-case letters, digits stand alone.
_LEARNING_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{Ll}+|\p{L}+|\p{N}|[^\s\p{L}\p{N}]{1,3}|\s"


def _byte_level() -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def _split_as_gpt2() -> pre_tokenizers.Sequence:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_GPT2_SPLIT), "isolated"), _byte_level()]
    )


class Vocabulary:
    """Tokens, merges, and an encoder that agrees with llama.cpp's."""

    def __init__(self, model: Tokenizer, marks: tuple[str, ...]) -> None:
        """Add the special tokens behind the byte-pair tokens of `model`."""
        self._bpe = model
        tokens = model.get_vocab()
        self.byte_pairs: list[str] = sorted(tokens, key=tokens.__getitem__)
        self.marks = marks
        self.tokens: list[str] = [*self.byte_pairs, *marks]
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        self._by_length = sorted(marks, key=len, reverse=True)
        self._cache: dict[str, list[int]] = {}

    @property
    def merges(self) -> list[str]:
        """Merges in order of rank, as GGUF wants them."""
        import json

        merges = json.loads(self._bpe.to_str())["model"]["merges"]
        return [" ".join(pair) if isinstance(pair, list) else pair for pair in merges]

    def encode(self, text: str) -> list[int]:
        """Tokens of a text in which the special tokens stand for themselves."""
        pieces: list[str | int] = [text]
        for mark in self._by_length:  # llama.cpp also takes the longest special token first
            if mark in text:
                pieces = [part for piece in pieces for part in self._cut(piece, mark)]
        found: list[int] = []
        for piece in pieces:
            found.extend([piece] if isinstance(piece, int) else self._plain(piece))
        return found

    def _cut(self, piece: str | int, mark: str) -> list[str | int]:
        if isinstance(piece, int) or mark not in piece:
            return [piece]
        parts: list[str | int] = []
        for number, text in enumerate(piece.split(mark)):
            if number:
                parts.append(self.ids[mark])
            if text:
                parts.append(text)
        return parts

    def _plain(self, text: str) -> list[int]:
        if text not in self._cache:
            if len(self._cache) > 200_000:
                self._cache.clear()
            self._cache[text] = self._bpe.encode(text).ids
        return self._cache[text]


def known_vocabulary(tokens: list[str], merges: list[str], marks: tuple[str, ...]) -> Vocabulary:
    """The vocabulary of a model that was made before; its last tokens are the marks."""
    byte_pairs = {token: number for number, token in enumerate(tokens[: -len(marks)])}
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    bpe = Tokenizer(models.BPE(vocab=byte_pairs, merges=pairs))
    bpe.pre_tokenizer = _split_as_gpt2()
    return Vocabulary(bpe, tuple(tokens[-len(marks) :]))


def learn_vocabulary(texts: Iterable[str], size: int, marks: tuple[str, ...]) -> Vocabulary:
    """Learn merges so that byte-pair tokens and marks together are `size` tokens."""
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(marks),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=2,
    )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_LEARNING_SPLIT), "isolated"), _byte_level()]
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.pre_tokenizer = _split_as_gpt2()
    return Vocabulary(bpe, marks)
