"""Token counts of the target model, offline.

The files of `cl100k_base` and `o200k_base` come with the litellm wheel; they are found without importing
litellm, and nothing is ever downloaded. Special tokens that a text spells out (`<|endoftext|>`) count as the
ordinary text that they are.
"""

from __future__ import annotations

import base64
import importlib.util
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tiktoken
from numpy.typing import NDArray
from tiktoken.model import encoding_name_for_model

from compressor.errors import CompressorError, InvalidOption
from compressor.text.characters import Char, char_classes
from compressor.text.tallies import true_at
from compressor.turns import give_way, give_way_alike, in_turns

DEFAULT_ENCODING = "o200k_base"
# Runs without a single break longer than this are encoded piecewise: a tokenizer's regex and merge loop are
# meant for words (10 MB of one letter takes 2 s this way, and would not end otherwise).
PIECE = 20_000
_STEP = 128 * 1024  # characters that are looked at in one step
# Above this much text, encoding on several threads wins over one call each (1 ms to start them).
BATCH_CHARACTERS = 200_000
_FILES = {  # name -> the file's name in tiktoken's cache, which is the SHA-1 of its address
    "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
    "o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790",
}
_PATTERNS = {  # as tiktoken_ext.openai_public has them; there they sit in functions that download
    "cl100k_base": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
        r"|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    "o200k_base": "|".join(
        [
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ]
    ),
}
# Handing a shorter piece to a thread costs more than encoding it: 40,000 texts of 260 characters take 0.7 s
# on one thread and 1.8 to 2.4 on several of sixteen cores; pieces of 2,600 are twice as fast on four.
_WORTH_A_THREAD = 2_000
# One core stays with the event loop of a gateway: threads on all of them have it wait for its turn.
_THREADS = max(1, min(8, (os.cpu_count() or 1) - 1))
_BREAKS = " \n\t.,;:!?()。，、；：！？"
# No text is split at it, since it is never allowed. But without any special token tiktoken looks for the
# empty string, finds it before every character, and takes three times as long.
_NEVER_SPECIAL = "\U0010ffff\U0010fffe"


class TokenCounter(Protocol):
    """Counts as one tokenizer does. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """`o200k_base`, `cl100k_base`, or the folder or hub name that was asked for."""

    def count(self, text: str) -> int:
        """How many tokens the text has."""

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """One count a text; large batches use several threads."""

    def token_starts(self, text: str) -> NDArray[np.int64]:
        """The character at which each token begins, ascending, shape [tokens]."""


class TiktokenCounter:
    """Counts of one of OpenAI's encodings."""

    def __init__(self, name: str, encoding: tiktoken.Encoding, token_bytes: NDArray[np.int32]) -> None:
        self._name = name
        self._encoding = encoding
        self._token_bytes = token_bytes  # length of each token of the vocabulary

    @property
    def name(self) -> str:
        return self._name

    def count(self, text: str) -> int:
        return sum(len(ids) for ids in self._ids(_pieces(text)))

    def count_many(self, texts: Sequence[str]) -> list[int]:
        if sum(map(len, texts)) < BATCH_CHARACTERS:
            return [self.count(text) for text in in_turns(texts)]
        pieces: list[str] = []
        owner: list[int] = []
        for index, text in enumerate(in_turns(texts)):
            parts = _pieces(text)
            pieces += parts
            owner += [index] * len(parts)
        counts = [0] * len(texts)
        for index, ids in zip(owner, self._ids(pieces), strict=True):
            counts[index] += len(ids)
        return counts

    def token_starts(self, text: str) -> NDArray[np.int64]:
        pieces = _pieces(text)
        starts, begin = [], 0
        for piece, ids in zip(pieces, in_turns(self._ids(pieces)), strict=True):
            starts.append(self._starts_in(piece, ids) + begin)
            begin += len(piece)
        return np.concatenate(starts)

    def _starts_in(self, piece: str, ids: NDArray[np.uint32]) -> NDArray[np.int64]:
        lengths = self._token_bytes[ids]
        starts = np.zeros(len(lengths), np.int64)
        np.cumsum(lengths[:-1], out=starts[1:])
        if piece.isascii():
            return starts
        encoded = np.frombuffer(piece.encode("utf-8", "surrogatepass"), np.uint8)
        character = np.cumsum((encoded & 0xC0) != 0x80) - 1
        return character[np.minimum(starts, len(encoded) - 1)]

    def _ids(self, pieces: Sequence[str]) -> list[NDArray[np.uint32]]:
        """The tokens of each piece; on several threads when there is much."""
        # Megabytes of one sign are one piece, many times. Hashing 32 MB in one step would take 12 ms.
        long = {piece: None for piece in in_turns(pieces) if len(piece) >= _WORTH_A_THREAD}
        if _THREADS < 2 or len(long) < 2 or sum(map(len, long)) < BATCH_CHARACTERS:
            return [self._encode(piece) for piece in in_turns(pieces)]
        with ThreadPoolExecutor(_THREADS, initializer=give_way_alike()) as threads:
            known = dict(zip(long, threads.map(self._encode_in_turn, long), strict=True))
        return [known[piece] if piece in known else self._encode(piece) for piece in in_turns(pieces)]

    def _encode_in_turn(self, piece: str) -> NDArray[np.uint32]:
        give_way()
        return self._encode(piece)

    def _encode(self, piece: str) -> NDArray[np.uint32]:
        try:
            return self._encoding.encode_to_numpy(piece, disallowed_special=())
        except UnicodeEncodeError:  # an unpaired surrogate counts as the sign for one
            piece = piece.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            return self._encoding.encode_to_numpy(piece, disallowed_special=())


class HuggingFaceCounter:
    """Counts of a `tokenizer.json`."""

    def __init__(self, name: str, tokenizer: Any) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # a spelled-out special token is ordinary text
        self._name = name
        self._tokenizer = tokenizer

    @property
    def name(self) -> str:
        return self._name

    def count(self, text: str) -> int:
        return self.count_many([text])[0]

    def count_many(self, texts: Sequence[str]) -> list[int]:
        counts = []
        for text in texts:
            encodings = self._tokenizer.encode_batch_fast(_pieces(text), add_special_tokens=False)
            counts.append(sum(len(encoding) for encoding in encodings))
        return counts

    def token_starts(self, text: str) -> NDArray[np.int64]:
        starts: list[int] = []
        offset = 0
        for piece in _pieces(text):
            encoding = self._tokenizer.encode(piece, add_special_tokens=False)
            starts += [offset + start for start, _ in encoding.offsets]
            offset += len(piece)
        return np.asarray(starts, np.int64)


def counter_for(name: str) -> TokenCounter:
    """The counter of an encoding, a model's name, or a tokenizer folder or cached hub name.

    `gpt-4o` gives o200k_base, `gpt-4` cl100k_base, an unknown model o200k_base (its `.name` says so). Raises
    InvalidOption for a path that holds no `tokenizer.json`.
    """
    if name in _FILES:
        return _tiktoken_counter(name)
    if name.startswith((".", "/", "~")) or os.path.isdir(name) or os.path.isfile(name):
        return _folder_counter(os.path.expanduser(name))
    if name.count("/") == 1 and isinstance(cached := _cached(name), str):
        return _file_counter(name, cached)
    return _tiktoken_counter(encoding_of_model(name))


def encoding_of_model(model: str) -> str:
    """`o200k_base` or `cl100k_base`: what the model reads, or a guess where its maker publishes nothing."""
    try:
        encoding = encoding_name_for_model(model.rsplit("/", 1)[-1])
    except KeyError:
        return DEFAULT_ENCODING
    return encoding if encoding in _FILES else "o200k_base" if encoding.startswith("o200k") else "cl100k_base"


@lru_cache(maxsize=1024)  # asked at every request
def has_encoding(model: str) -> bool:
    """Whether `encoding_of_model` knows what the model reads, and does not guess."""
    try:
        return encoding_name_for_model(model.rsplit("/", 1)[-1]) in _FILES
    except KeyError:
        return False


def _cached(name: str) -> Any:
    from huggingface_hub import try_to_load_from_cache  # 0.2 s, and only hub names need it

    try:
        return try_to_load_from_cache(name, "tokenizer.json")
    except ValueError:  # not a valid repository name, so no tokenizer of the hub
        return None


@lru_cache(maxsize=4)
def _tiktoken_counter(name: str) -> TiktokenCounter:
    ranks: dict[bytes, int] = {}
    for line in _encoding_file(name).read_bytes().splitlines():
        token, _, rank = line.partition(b" ")
        ranks[base64.b64decode(token)] = int(rank)
    lengths = np.zeros(max(ranks.values()) + 1, np.int32)
    lengths[list(ranks.values())] = [len(token) for token in ranks]
    encoding = tiktoken.Encoding(
        name,
        pat_str=_PATTERNS[name],
        mergeable_ranks=ranks,
        special_tokens={_NEVER_SPECIAL: len(lengths)},
    )
    ranks.clear()  # the Rust side has its own; keeping ours costs 28 MB
    return TiktokenCounter(name, encoding, lengths)


def _encoding_file(name: str) -> Path:
    spec = importlib.util.find_spec("litellm")  # finds the package; does not run it
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin).parent / "litellm_core_utils" / "tokenizers" / _FILES[name]
        if file.is_file():
            return file
    raise CompressorError(
        f"the token file of {name} is missing: it comes with the litellm package; reinstall it"
    )


def _folder_counter(path: str) -> HuggingFaceCounter:
    file = path if os.path.isfile(path) else os.path.join(path, "tokenizer.json")
    if not os.path.isfile(file):
        raise InvalidOption(f"tokenizer {path!r}: expected a folder with a tokenizer.json")
    return _file_counter(path, file)


@lru_cache(maxsize=8)
def _file_counter(name: str, file: str) -> HuggingFaceCounter:
    from tokenizers import Tokenizer  # 4 MB that OpenAI's encodings do without

    try:
        return HuggingFaceCounter(name, Tokenizer.from_file(file))
    except Exception as error:  # the Rust side raises bare Exception
        raise InvalidOption(f"tokenizer {name!r}: {error}") from error


def _pieces(text: str) -> list[str]:
    """The text in pieces of at most some `PIECE` characters, cut where a token begins in any case.

    Cuts fall before a space that follows a sign: no pattern lets a token run across that place.
    """
    if len(text) <= PIECE:
        return [text]
    # Only before the first space of a run, and only a plain one: line breaks stick to the sign before them.
    candidates = _blanks_begin(text)
    cuts: list[int] = [0]
    while len(text) - cuts[-1] > PIECE:
        give_way()
        low, high = cuts[-1] + PIECE // 2, cuts[-1] + PIECE
        index = int(np.searchsorted(candidates, high, "right")) - 1
        while index >= 0 and candidates[index] > low and text[candidates[index]] != " ":
            index -= 1
        if index >= 0 and candidates[index] > low:
            cuts.append(int(candidates[index]))
        else:
            cuts.append(_break_near(text, low, high))
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _blanks_begin(text: str) -> NDArray[np.int64]:
    """Where runs of blanks begin, but for one at the text's own begin."""
    found, after_blank = [], True
    for start in in_turns(range(0, len(text), _STEP)):
        blank = char_classes(text[start : start + _STEP]) == Char.SPACE
        begins = blank & ~np.concatenate(([after_blank], blank[:-1]))
        found.append(true_at(begins) + start)
        after_blank = bool(blank[-1])
    return np.concatenate(found)


def _break_near(text: str, low: int, high: int) -> int:
    """Where to cut a run without spaces: before a sign that follows a letter, else at `high`."""
    for at in range(high, low, -1):
        if text[at] in _BREAKS and text[at - 1].isalnum():
            return at
    return high
