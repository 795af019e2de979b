"""llmlingua's own notations: `<llmlingua, rate=0.4, compress=False>` sections and JSON configurations.

There the tags are read and then ignored with LLMLingua-2, and a section with a `<` in it is lost; here they
do what they say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from compressor.errors import InvalidOption
from compressor.options import checked_share
from compressor.shapes import Shortened, Span
from compressor.text.tokens import TokenCounter

_TAG = re.compile(r"<llmlingua((?:\s*,\s*(?i:rate|compress)\s*=\s*[^,<>\s]+)*)\s*>|</llmlingua\s*>")
_ATTRIBUTE = re.compile(r"(rate|compress)\s*=\s*([^,<>\s]+)", re.IGNORECASE)
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "str": str,
    "string": str,
    "int": int,
    "integer": int,
    "float": (int, float),
    "number": (int, float),
    "bool": bool,
    "list": list,
    "tuple": (list, tuple),
    "dict": dict,
}


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a tagged text, tags excluded. `rate` None: the call's own budget."""

    span: Span
    rate: float | None = None
    compress: bool = True


@dataclass(frozen=True, slots=True)
class ShortenedJson:
    """A shortened object: same structure, shorter strings."""

    data: dict[str, Any]
    removed: tuple[str, ...]  # keys that went as a pair (`pair_remove`)
    tokens_before: int  # of the object as compact JSON
    tokens_after: int
    tokenizer: str


def has_tags(text: str) -> bool:
    """Whether the text is marked up with llmlingua's tags."""
    return "<llmlingua" in text and _TAG.search(text) is not None


def cut_tagged(text: str) -> list[Section]:
    """The sections of a tagged text, in order; text outside of tags has the call's budget.

    Raises InvalidOption for tags that do not pair up or nest, InvalidBudget for a rate that is no share.
    """
    sections: list[Section] = []
    begin = 0
    opened: re.Match[str] | None = None
    for tag in _TAG.finditer(text):
        opens = not tag.group().startswith("</")
        if opens == (opened is not None):
            what = "is not closed" if opens else "closes nothing"
            raise InvalidOption(f"<llmlingua> tag at character {tag.start()}: the tag before it {what}")
        if opened is None:
            if tag.start() > begin:
                sections.append(Section(Span(begin, tag.start())))
            opened = tag
        else:
            rate, compress = _attributes(opened)
            sections.append(Section(Span(begin, tag.start()), rate, compress))
            opened = None
        begin = tag.end()
    if opened is not None:
        raise InvalidOption(f"<llmlingua> tag at character {opened.start()} is never closed")
    if begin < len(text):
        sections.append(Section(Span(begin, len(text))))
    return sections


def _attributes(tag: re.Match[str]) -> tuple[float | None, bool]:
    rate: float | None = None
    compress = True
    for name, value in _ATTRIBUTE.findall(tag.group(1) or ""):
        if name.lower() == "compress":
            if value.lower() not in ("true", "false"):
                raise InvalidOption(f"<llmlingua> tag: compress is True or False, not {value}")
            compress = value.lower() == "true"
        else:
            try:
                rate = checked_share("<llmlingua> tag: rate", float(value))
            except ValueError:
                raise InvalidOption(f"<llmlingua> tag: rate is a number, not {value}") from None
    return rate, compress


def join_sections(
    sections: Sequence[Section], parts: Sequence[Shortened], counter: TokenCounter
) -> Shortened:
    """One result for the whole text; spans count in the tagged text, tokens do without the tags."""
    kept = tuple(
        Span(span.start + section.span.start, span.end + section.span.start)
        for section, part in zip(sections, parts, strict=True)
        for span in part.kept
    )
    decisions = tuple(
        replace(one, span=Span(one.span.start + section.span.start, one.span.end + section.span.start))
        for section, part in zip(sections, parts, strict=True)
        for one in part.decisions
    )
    text = "".join(part.text for part in parts)
    return Shortened(
        text=text,
        kept=kept,
        scores=np.concatenate([part.scores for part in parts]) if parts else np.zeros(0, np.uint8),
        tokens_before=sum(part.tokens_before for part in parts),
        tokens_after=counter.count(text),
        tokenizer=counter.name,
        decisions=decisions,
        note="; ".join(part.note for part in parts if part.note),
    )


@dataclass(frozen=True, slots=True)
class Leaf:
    """One string of an object that may be shortened."""

    path: tuple[str | int, ...]
    text: str
    rate: float


@dataclass(frozen=True, slots=True)
class JsonPlan:
    """Which strings of an object are shortened, how far, and which pairs may go."""

    data: Mapping[str, Any]
    leaves: tuple[Leaf, ...]
    removable: frozenset[str]
    keep: float

    def result(self, parts: Sequence[Shortened], counter: TokenCounter) -> ShortenedJson:
        """The object with its strings shortened, and of the removable pairs the dullest left out."""
        data = json.loads(json.dumps(dict(self.data)))
        values: dict[str, list[float]] = {}
        for leaf, part in zip(self.leaves, parts, strict=True):
            holder = data
            for step in leaf.path[:-1]:
                holder = holder[step]
            holder[leaf.path[-1]] = part.text
            values.setdefault(str(leaf.path[0]), []).append(
                float(part.scores.mean()) if len(part.scores) else 0.0
            )
        before = counter.count(_compact(self.data))
        removed = []
        after = counter.count(_compact(data))
        for key in sorted(self.removable, key=lambda key: (float(np.mean(values.get(key, [0.0]))), key)):
            if after <= self.keep * before:
                break
            del data[key]
            removed.append(key)
            after = counter.count(_compact(data))
        return ShortenedJson(data, tuple(removed), before, after, counter.name)


def plan_json(data: Mapping[str, Any], config: Mapping[str, Any] | str, keep: float) -> JsonPlan:
    """Reads llmlingua's configuration: per top-level key `rate`, `compress`, `value_type`, `pair_remove`.

    A key that the configuration leaves out is not touched. Raises InvalidOption where the two do not fit.
    """
    rules = yaml.safe_load(Path(config).read_text()) if isinstance(config, str) else config
    if not isinstance(rules, Mapping) or not isinstance(data, Mapping):
        raise InvalidOption("compress_json: expected an object and a configuration by key")
    if missing := sorted(set(rules) - set(data)):
        raise InvalidOption(
            f"compress_json: the configuration names keys that are not there: {', '.join(missing)}"
        )
    leaves: list[Leaf] = []
    removable = set()
    for key, value in data.items():
        rule = rules.get(key) or {}
        expected = rule.get("value_type")
        if expected is not None and not isinstance(value, _TYPES.get(expected, object)):
            raise InvalidOption(f"compress_json: {key} should be {expected}, is {type(value).__name__}")
        if rule.get("pair_remove"):
            removable.add(key)
        if key in rules and rule.get("compress", True):
            rate = rule.get("rate")
            share = keep if rate in (None, "default") else checked_share(f"{key}: rate", rate)
            leaves += _leaves(value, (key,), share)
    return JsonPlan(data, tuple(leaves), frozenset(removable), keep)


def _leaves(value: Any, path: tuple[str | int, ...], rate: float) -> list[Leaf]:
    if isinstance(value, str):
        return [Leaf(path, value, rate)] if value.strip() else []
    if isinstance(value, Mapping):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, (*path, key), rate)]
    if isinstance(value, (list, tuple)):
        return [leaf for index, inner in enumerate(value) for leaf in _leaves(inner, (*path, index), rate)]
    return []


def _compact(data: Mapping[str, Any]) -> str:
    return json.dumps(dict(data), ensure_ascii=False)
