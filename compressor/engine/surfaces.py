"""Where tokens stand in a text, told from their spelling alone.

A tokenizer that keeps track of offsets takes half as long again, and hands out one Python tuple a token.
Where the tokens' spellings, put one after the other, are the text itself (white space apart), each one's
place follows from adding up their lengths. That is checked character by character; where a normaliser has
changed something ("ﬁ", "…"), or a token is unknown, the tokenizer has to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_META = 0x2581  # "▁", how Unigram vocabularies spell a space
_SPACES = np.zeros(0x3001, bool)
# Not the vertical tab: SentencePiece drops it, so that a token behind it begins at the next character.
_SPACES[[9, 10, 12, 13, 32, 0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000]] = True
_NEVER = "\ud800"  # in no text: stands for tokens without a spelling
# The first tells the ways apart. The others need not be spelled as they are written.
_PROBES = ("a b", " The cat sat.", "Don't  stop\n here, 3.14 会 x")


@dataclass(frozen=True, slots=True)
class Pieces:
    """Texts that were tokenised each on its own, one behind the other."""

    codes: NDArray[np.uint32]  # [characters] of all
    sizes: NDArray[np.int64]  # [pieces], characters of each
    ids: NDArray[np.int32]  # [tokens] of all
    counts: NDArray[np.int64]  # [pieces], tokens of each


@dataclass(frozen=True, slots=True)
class Places:
    """Where tokens begin and end, counted in the characters of all pieces; [tokens]."""

    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    known: NDArray[np.bool_]  # [pieces]; the places of the others' tokens mean nothing


@dataclass(frozen=True, slots=True)
class _Expected:
    """The characters that the tokens of some pieces must spell, and where each stands."""

    codes: NDArray[np.uint32]
    places: NDArray[np.int64]
    sizes: NDArray[np.int64]  # [pieces]


class Surfaces:
    """What every token of one vocabulary spells.

    `spaced`: spaces are spelled, by "▁", also one before each piece that begins without; otherwise they are
    not. `shift`: 1 if "▁" is said to stand where the word begins, 0 if where the space is.
    """

    def __init__(self, spellings: list[str], *, spaced: bool, shift: int) -> None:
        self._spaced = spaced
        self._shift = shift
        self._lengths = np.array([len(one) for one in spellings], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)[:-1]])
        self._codes = np.frombuffer("".join(spellings).encode("utf-32-le", "surrogatepass"), np.uint32)

    def locate(self, pieces: Pieces) -> Places:
        """Where the tokens stand, as far as their spelling tells."""
        expected = self._expected(pieces)
        lengths = self._lengths[pieces.ids]
        ends = np.cumsum(lengths)
        spelled = _sums(lengths, pieces.counts)
        known = spelled == expected.sizes
        if known.all():
            found, wanted, places = self._spell(pieces.ids, lengths, ends), expected.codes, expected.places
        else:
            # Unequal pieces are left out of the comparison, and get any place.
            tokens, characters = np.repeat(known, pieces.counts), np.repeat(known, expected.sizes)
            wanted, places = expected.codes[characters], expected.places[characters]
            lengths = np.where(tokens, lengths, 0)
            ends = np.cumsum(lengths)
            found = self._spell(pieces.ids[tokens], lengths[tokens], ends[tokens])
        if (unlike := np.flatnonzero(found != wanted)).size:
            bounds = np.cumsum(np.where(known, spelled, 0))
            known[np.searchsorted(bounds, unlike, "right")] = False
        if not places.size:
            nothing = np.zeros(pieces.ids.size, np.int32)
            return Places(nothing, nothing, known)
        last = places.size - 1
        starts = places[np.minimum(ends - lengths, last)]
        return Places(
            starts.astype(np.int32),
            (places[np.minimum(np.maximum(ends - 1, 0), last)] + 1).astype(np.int32),
            known,
        )

    def _spell(
        self, ids: NDArray[np.int32], lengths: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        """What the tokens spell, one after the other."""
        if not ids.size:
            return np.zeros(0, np.uint32)
        # Places in the spellings: one further each, but where the next token begins.
        begins = self._starts[ids]
        at = np.ones(int(ends[-1]), np.int64)
        at[0] = begins[0]
        at[ends[:-1]] = begins[1:] - (begins[:-1] + lengths[:-1] - 1)
        np.cumsum(at, out=at)
        spelled: NDArray[np.uint32] = self._codes[at]
        return spelled

    def _expected(self, pieces: Pieces) -> _Expected:
        codes, sizes = pieces.codes, pieces.sizes
        space = _SPACES[np.minimum(codes, _SPACES.size - 1)] & (codes < _SPACES.size)
        firsts = np.cumsum(sizes) - sizes
        if not self._spaced:
            places = np.flatnonzero(~space)
            return _Expected(codes[places], places, _sums(~space, sizes))
        # Of a run of white space one sign is left, the last.
        left = np.ones(codes.size, bool)
        left[:-1] = ~(space[:-1] & space[1:])
        left[firsts[1:] - 1] = True  # pieces do not see each other
        places = np.flatnonzero(left)
        spelled = codes.copy()
        spelled[space] = _META
        spelled = spelled[places]
        at = places + space[places] if self._shift else places
        bare = firsts[~space[firsts]]  # pieces that get a "▁" of their own
        slots = np.searchsorted(places, bare)
        return _Expected(
            np.insert(spelled, slots, _META),
            np.insert(at, slots, bare),
            _sums(left, sizes) + ~space[firsts],
        )


def surfaces_of(tokenizer: Any) -> Surfaces | None:
    """How this tokenizer spells, found by trying; None where its places cannot be told from spelling."""
    vocabulary = tokenizer.get_vocab()
    spellings = [_NEVER] * (max(vocabulary.values(), default=-1) + 1)
    for token, at in vocabulary.items():
        spellings[at] = token or _NEVER
    bare = [one.removeprefix("##") if len(one) > 2 else one for one in spellings]
    for found in (
        Surfaces(spellings, spaced=True, shift=0),
        Surfaces(spellings, spaced=True, shift=1),
        Surfaces(bare, spaced=False, shift=0),
    ):
        told = [_agrees(found, tokenizer, probe) for probe in _PROBES]
        if told[0] and False not in told:
            return found
    return None


def _agrees(surfaces: Surfaces, tokenizer: Any, probe: str) -> bool | None:
    """Whether the places are the tokenizer's own; None where spelling does not tell them."""
    encoded = tokenizer.encode(probe, add_special_tokens=False)
    ids = np.array(encoded.ids, np.int32)
    codes = np.frombuffer(probe.encode("utf-32-le"), np.uint32)
    pieces = Pieces(codes, np.array([codes.size]), ids, np.array([ids.size]))
    places = surfaces.locate(pieces)
    found = list(zip(places.starts.tolist(), places.ends.tolist(), strict=True))
    return found == encoded.offsets if places.known[0] else None


def _sums(values: NDArray[Any], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of each stretch of so many values; 0 of an empty one."""
    sums = np.zeros(sizes.size, np.int64)
    some = sizes > 0
    if some.any():
        begins = (np.cumsum(sizes) - sizes)[some]
        sums[some] = np.add.reduceat(values, begins, dtype=np.int64)
    return sums
