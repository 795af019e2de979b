"""Puts a shortened text together from slices of the original.

Between two kept words that stood next to each other, the space between them comes along as it was. Where
words went, one line break stays if there was one (two for a paragraph), with the indentation of the line that
follows; else one space if there was any. Nothing is ever inserted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.text.characters import Char
from compressor.text.pieces import join_pieces
from compressor.text.tallies import distances, edges_of, running_count, true_at
from compressor.text.words import Words
from compressor.turns import in_turns

_NONE = -1
_STEP = 1 << 18  # characters put together in one step
_PERCENT = ord("%")
_CARRIAGE_RETURN = 13
_NUMBER_SIGNS = np.zeros(0xFFFF, bool)  # by code point; the last entry stands for all beyond
_NUMBER_SIGNS[[ord(sign) for sign in ".,:/-+–−~～"]] = True
_SPACED_LETTERS = np.zeros(Char.COUNT, bool)  # by class of character
_SPACED_LETTERS[[Char.OTHER, Char.DIGIT, Char.TRAIL]] = True


@dataclass(frozen=True, slots=True)
class Spacing:
    """What stands between the words of one text; all arrays have shape [words]."""

    words: Words
    lines: NDArray[np.int32]  # gaps with a line break up to and including the one before this word
    paragraphs: NDArray[np.int32]  # likewise, of two line breaks and more
    spaces: NDArray[np.int32]  # likewise, of any space
    line_first: NDArray[np.int32]  # first word of this word's line
    paragraph_first: NDArray[np.int32]  # last word up to this one that follows a paragraph break
    space_before: NDArray[np.int32]  # place of the last space character up to this word
    break_at: NDArray[np.int32]  # where the last line break before this word (if it begins a line) starts
    two_breaks_at: NDArray[np.int32]  # where the last two start, if there are two
    first_break: NDArray[np.int32]  # the first line break before this word, if any: its start
    sticks_left: NDArray[np.bool_]  # begins with a letter or digit of a spaced script
    sticks_right: NDArray[np.bool_]  # ends with one
    all_breaks: bool  # keep every line break (`force_tokens` has "\n")


def measure_spacing(words: Words, *, all_breaks: bool = False) -> Spacing:
    """Everything that rendering needs to know about the spaces of a text, computed once."""
    points = words.codes
    breaks = true_at(points == 10)
    starts = words.starts
    upto = np.searchsorted(breaks, starts)
    count = distances(upto)
    begins_line = count >= 1
    padded = np.concatenate(([_NONE, _NONE], breaks))
    break_at = np.where(begins_line, padded[upto + 1], _NONE)
    two_breaks_at = np.where(count >= 2, padded[upto], _NONE)
    first_break = np.where(begins_line, padded[np.minimum(upto - count + 2, len(padded) - 1)], _NONE)
    gap = starts - np.concatenate(([0], words.ends[:-1]))
    indices = np.arange(len(words), dtype=np.int32)
    has_space = gap > 0
    if len(words):
        has_space[0] = False
    sticks_left, sticks_right = np.zeros(len(words), bool), np.zeros(len(words), bool)
    # Only words that touch a neighbour can be glued; most texts have few.
    touches = ~has_space
    if touches[1:].any():
        touches[:-1] |= ~has_space[1:]
        touches[1:] |= ~has_space[:-1]
        near = true_at(touches)
        sticks_left[near] = _sticks(words, starts[near]) | _numeric(words, starts[near], 1)
        sticks_right[near] = _sticks(words, words.ends[near] - 1) | _numeric(words, words.ends[near] - 1, -1)
    return Spacing(
        words=words,
        lines=running_count(begins_line, np.int32),
        paragraphs=running_count(count >= 2, np.int32),
        spaces=running_count(has_space, np.int32),
        line_first=np.maximum.accumulate(np.where(begins_line, indices, 0)).astype(np.int32),
        paragraph_first=np.maximum.accumulate(np.where(count >= 2, indices, 0)).astype(np.int32),
        space_before=np.maximum.accumulate(np.where(has_space, starts - 1, 0)).astype(np.int32),
        break_at=_with_carriage_return(points, break_at),
        two_breaks_at=_with_carriage_return(points, two_breaks_at),
        first_break=_with_carriage_return(points, first_break),
        sticks_left=sticks_left,
        sticks_right=sticks_right,
        all_breaks=all_breaks,
    )


def _sticks(words: Words, at: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which of these places hold a letter or digit of a spaced script."""
    found = _SPACED_LETTERS[words.classes[at]]
    codes = words.codes[at[found]]
    sticks = np.zeros(int(codes.max(initial=0)) + 1, bool)  # by code point, of those that are there
    sticks[codes] = True
    there = true_at(sticks)
    sticks[there] = [chr(point).isalnum() or point == _PERCENT for point in there.tolist()]
    found[found] = sticks[codes]
    return found


def _numeric(words: Words, at: NDArray[np.int32], step: int) -> NDArray[np.bool_]:
    """Which of these places hold a sign of numbers with a digit beside it, one step into the word.

    "2." and "2013" stuck together would be another number, and so would "60" and "-1.5".
    """
    inner = np.clip(at + step, 0, len(words.codes) - 1)
    signs = _NUMBER_SIGNS[np.minimum(words.codes[at], len(_NUMBER_SIGNS) - 1)]
    signs &= words.classes[inner] == Char.DIGIT
    return signs


def _with_carriage_return(points: NDArray[np.uint32], at: NDArray[np.int64]) -> NDArray[np.int32]:
    """Moves each place of a line feed before its carriage return, where there is one."""
    moved = at.copy()
    here = true_at(at > 0)
    returns = points[at[here] - 1] == _CARRIAGE_RETURN
    moved[here[returns]] -= 1
    return moved.astype(np.int32)


def bridge_gaps(spacing: Spacing, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`keep`, and the words without which two kept ones would run into each other ("PythonJava")."""
    if not spacing.sticks_left.any():
        return keep
    begins, ends = _runs(keep, keep)
    left, right = ends[:-1], begins[1:]
    glued = (
        (spacing.spaces[left] == spacing.spaces[right])
        & spacing.sticks_right[left]
        & spacing.sticks_left[right]
    )
    if not glued.any():
        return keep
    bridged = keep.copy()
    bridged[right[glued] - 1] = True
    return bridge_gaps(spacing, bridged)


def _runs(emitted: NDArray[np.bool_], keep: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last words of the runs of words that stay next to each other; dropped ones begin a run."""
    before = np.zeros(len(emitted), bool)
    before[1:] = emitted[:-1] & keep[1:]
    begins = true_at(emitted & ~before)
    behind = np.zeros(len(emitted), bool)
    behind[:-1] = before[1:]
    return begins, true_at(emitted & ~behind)


def kept_slices(
    spacing: Spacing,
    keep: NDArray[np.bool_],
    tails: NDArray[np.bool_] | None = None,
    tail_starts: NDArray[np.int32] | None = None,
    trailing: NDArray[np.int8] | None = None,
) -> NDArray[np.int64]:
    """The slices of the original that the shortened text consists of, shape [slices, 2], in order.

    `tails` marks dropped words whose end (from `tail_starts` on) stays. `trailing` says how many characters
    at each word's end go when the word behind them goes.
    """
    words = spacing.words
    length = len(words.text)
    if bool(keep.all()):
        return everything(words.text)
    begins, ends = _runs(keep if tails is None else keep | tails, keep)
    if not len(begins):
        return np.zeros((0, 2), np.int64)
    slices = np.zeros((len(begins), 3, 2), np.int64)
    slices[:, 2, 0] = words.starts[begins]
    slices[:, 2, 1] = words.ends[ends]
    _fill_gaps(spacing, begins, ends, slices)
    if trailing is not None:
        slices[:, 2, 1] -= np.where(_apart(spacing, begins, ends), trailing[ends], 0)
    if tails is not None and tail_starts is not None:
        cut = ~keep[begins]
        slices[cut, 2, 0] = tail_starts[begins[cut]]
        slices[cut, :2] = 0  # punctuation goes right behind what stands before it
    flat = slices.reshape(-1, 2)
    if ends[-1] == len(words) - 1:
        flat = np.concatenate((flat, [[words.ends[-1], length]]))
    flat = flat[flat[:, 0] < flat[:, 1]]
    if spacing.all_breaks:
        flat = _with_all_breaks(words, flat)
    joined = np.ones(len(flat), bool)
    joined[1:] = flat[1:, 0] != flat[:-1, 1]
    merged = flat[joined]
    merged[:, 1] = flat[np.append(true_at(joined)[1:] - 1, len(flat) - 1), 1]
    return merged


def without_spans(slices: NDArray[np.int64], spans: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The slices less these characters of a text of this length."""
    if not len(spans) or not len(slices):
        return slices
    edges = np.zeros(length + 1, np.int8)
    edges[slices[:, 0]] = 1
    edges[slices[:, 1]] = -1
    kept = running_count(edges[:-1], np.int8).view(bool)
    edges[:] = 0
    edges[spans[:, 0]] = 1
    edges[spans[:, 1]] = -1
    kept &= ~running_count(edges[:-1], np.int8).view(bool)
    turns = edges_of(kept)
    cut: NDArray[np.int64] = turns.reshape(-1, 2)
    return cut


def _apart(spacing: Spacing, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Behind which runs words are missing and space follows, so that nothing else need keep them apart."""
    apart = np.ones(len(ends), bool)
    apart[:-1] = spacing.spaces[begins[1:]] > spacing.spaces[ends[:-1]]
    apart[-1] = ends[-1] < len(spacing.words) - 1
    return apart


def _fill_gaps(
    spacing: Spacing, begins: NDArray[np.int64], ends: NDArray[np.int64], slices: NDArray[np.int64]
) -> None:
    """Fills the two slices of space that may stand before each run of words."""
    words = spacing.words
    left, right = ends[:-1], begins[1:]
    gap = slices[1:]
    line_first = spacing.line_first[right]
    breaks = spacing.lines[right] > spacing.lines[left]
    spaces = (spacing.spaces[right] > spacing.spaces[left]) & ~breaks
    gap[spaces, 1, 0] = spacing.space_before[right[spaces]]
    gap[spaces, 1, 1] = gap[spaces, 1, 0] + 1
    gap[breaks, 1, 0] = spacing.break_at[line_first[breaks]]
    gap[breaks, 1, 1] = words.starts[line_first[breaks]]
    paragraph = breaks & (spacing.paragraphs[right] > spacing.paragraphs[left])
    at = spacing.paragraph_first[right]
    here = paragraph & (at == line_first)
    gap[here, 1, 0] = spacing.two_breaks_at[at[here]]
    earlier = paragraph & (at != line_first)
    gap[earlier, 0, 0] = spacing.first_break[at[earlier]]
    gap[earlier, 0, 1] = gap[earlier, 0, 0] + _break_lengths(words, gap[earlier, 0, 0])
    if begins[0] == 0:
        slices[0, 1] = (0, words.starts[0])
    else:
        first = int(spacing.line_first[begins[0]])
        place = int(spacing.break_at[first])
        indent = place + int(_break_lengths(words, np.asarray([place]))[0]) if place >= 0 else 0
        slices[0, 1] = (indent, words.starts[first])


def _break_lengths(words: Words, places: NDArray[np.int64]) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = np.where(words.codes[places] == _CARRIAGE_RETURN, 2, 1)
    return lengths


def _with_all_breaks(words: Words, flat: NDArray[np.int64]) -> NDArray[np.int64]:
    """The slices, and every line break that none of them holds."""
    breaks = true_at(words.codes == 10)
    covering = np.searchsorted(flat[:, 0], breaks, "right") - 1
    missing = breaks[(covering < 0) | (flat[covering, 1] <= breaks)]
    together = np.concatenate((flat, np.stack((missing, missing + 1), axis=1)))
    ordered: NDArray[np.int64] = together[np.argsort(together[:, 0], kind="stable")]
    return ordered


def everything(text: str) -> NDArray[np.int64]:
    """The one slice that is the whole text; none for the empty text."""
    return np.asarray([[0, len(text)]] if text else np.zeros((0, 2)), np.int64)


def render(words: Words, slices: NDArray[np.int64]) -> str:
    """The slices of a text, put together."""
    edges = np.zeros(len(words.codes) + 1, np.int8)
    edges[slices[:, 0]] = 1
    edges[slices[:, 1]] = -1  # no slice begins where another ends
    kept = running_count(edges[:-1], np.int8).view(bool)
    steps = range(0, len(kept), _STEP)
    parts = [words.codes[at : at + _STEP][kept[at : at + _STEP]] for at in in_turns(steps)]
    return join_pieces([part.tobytes().decode("utf-32-le", "surrogatepass") for part in in_turns(parts)])
