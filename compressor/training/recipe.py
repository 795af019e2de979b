"""A recipe: from which public texts an encoder is made, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml

from compressor.errors import InvalidOption

DEFAULT = Path(__file__).with_name("recipe_default.yaml")
Kind = Literal["answers", "questions", "summaries", "highlights", "turns", "deletions"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """A file of labels: `FILE.jsonl` or `FILE.jsonl.gz` in the data folder, read as `kind`."""

    file: str
    kind: Kind
    about: str  # for the model card: the data set's name
    licence: str  # for the model card, and for records that name none
    where: str = ""  # its public home
    share: float = 1.0  # of its windows, drawn in each epoch
    rank: bool = True  # its questions also train ranking, and measure the held-back part


@dataclass(frozen=True, slots=True)
class Passages:
    """Texts that a teacher LLM asks questions about, and that a large encoder reads to a small one."""

    name: str
    file: str  # with `text`, or with `context` (a retrieval context is taken apart into its documents)
    about: str
    licence: str
    where: str = ""
    sources: tuple[str, ...] = ()  # only records of these sources; empty: all
    languages: tuple[str, ...] = ()  # likewise
    most: int = 0  # chunks; 0: all
    share: float = 1.0  # of its questions' windows, drawn in each epoch
    asked: bool = True  # False: only a larger encoder reads them to the small one


@dataclass(frozen=True, slots=True)
class Stage:
    """How one encoder is trained: once a seed; of these runs and their mean the best is taken."""

    layers: int
    epochs: int
    seeds: tuple[int, ...] = (7,)
    learning_rate: float = 4e-4
    budget_share: float = 0.7
    label_share: float = 1.0
    imitation_share: float = 1.0
    batch_tokens: int = 16_384
    passages_share: float = 0.0  # of the passages' windows, read without labels (only with a larger encoder)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes an encoder: `large` first (if any), which teaches `small`, which is exported."""

    sources: tuple[Source, ...]
    small: Stage
    large: Stage | None = None
    passages: tuple[Passages, ...] = ()
    vocabulary: int = 0
    chunk_tokens: int = 512
    reply_tokens: int = 192  # at most, of a teacher in a folder: room for eight short questions
    held_back: float = 0.2
    documents: Mapping[str, str] = field(default_factory=dict)  # other names of a document: what it is called


def read_recipe(path: Path = DEFAULT) -> Recipe:
    """The recipe of a YAML file. Raises InvalidOption, which names the file and the key, OSError."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InvalidOption(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise InvalidOption(f"{path}: expected a mapping")
    nested: dict[str, Any] = {
        "sources": _each(found, "sources", Source, path),
        "passages": _each(found, "passages", Passages, path),
        "small": _filled(Stage, found.get("small"), f"{path}: small"),
        "large": _filled(Stage, found["large"], f"{path}: large") if found.get("large") else None,
    }
    recipe = _filled(Recipe, found | nested, str(path))
    wrong = [source.kind for source in recipe.sources if source.kind not in get_args(Kind)]
    if wrong:
        raise InvalidOption(f"{path}: sources: kind {wrong[0]!r}; one of {', '.join(get_args(Kind))}")
    return recipe


def _each(found: Mapping[str, Any], key: str, what: type[T], path: Path) -> tuple[T, ...]:
    entries = found.get(key) or []
    if not isinstance(entries, list):
        raise InvalidOption(f"{path}: {key}: expected a list")
    return tuple(_filled(what, entry, f"{path}: {key}[{at}]") for at, entry in enumerate(entries))


def _filled(what: type[T], found: object, where: str) -> T:
    if not isinstance(found, dict):
        raise InvalidOption(f"{where}: expected a mapping")
    known = {one.name for one in fields(what)}  # type: ignore[arg-type]
    if unknown := found.keys() - known:
        raise InvalidOption(f"{where}: unknown key {sorted(unknown)[0]!r}")
    try:
        return what(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
        )
    except TypeError as error:
        raise InvalidOption(f"{where}: {error}") from None
