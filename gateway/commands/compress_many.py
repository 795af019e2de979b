"""`terse compress` over many texts: several files, or the lines of a JSONL file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from compressor.errors import BudgetTooSmall, CompressorError, InvalidText
from compressor.shapes import Shortened

if TYPE_CHECKING:
    from compressor import Compressor
    from compressor.options import CompressOptions

# At once: enough for every process to have work, and little beside what an encoder takes.
_CHARACTERS, _TEXTS = 4_000_000, 4096
_OF_ONE_TEXT = (BudgetTooSmall, InvalidText)  # what one text is refused for; the others go on
Write = Callable[[Shortened | None], None]  # what came of a text; None: it stays as it was


@dataclass(frozen=True, slots=True)
class Item:
    """One text, and where its short form goes."""

    name: str
    text: str | None  # None: no text could be read
    write: Write


@dataclass(slots=True)
class Totals:
    """What came of all of them."""

    texts: int = 0
    before: int = 0
    after: int = 0
    refused: list[str] = field(default_factory=list)

    def add(self, item: Item, result: Shortened | CompressorError) -> None:
        """Counts and writes one."""
        self.texts += 1
        if isinstance(result, CompressorError):
            self.refused.append(f"{item.name}: left as it is: {type(result).__name__}: {result}")
            item.write(None)
            return
        self.before += result.tokens_before
        self.after += result.tokens_after
        item.write(result)


def shorten_all(
    compressor: Compressor, items: Iterable[Item], options: CompressOptions, processes: int
) -> Totals:
    """Shortens and writes every item, in order, with its progress on stderr.

    An item that is refused for what it is stays as it was and is named in the totals. Raises what concerns
    all of them: InvalidOption, EngineStopped and the like.
    """
    totals = Totals()
    columns = (TextColumn("Shortening"), MofNCompleteColumn(), TextColumn("texts"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        for group in _groups(items):
            for item, result in zip(group, _shorten(compressor, group, options, processes), strict=True):
                totals.add(item, result)
            progress.update(task, completed=totals.texts)
    return totals


def file_items(files: Iterable[str], folder: Path) -> Iterator[Item]:
    """The files' texts; their short forms are written into the folder."""
    for file in files:
        raw, into = Path(file).read_bytes(), folder / Path(file).name

        def written(result: Shortened | None, raw: bytes = raw, into: Path = into) -> None:
            into.write_bytes(raw if result is None else result.text.encode())

        yield Item(file, _decoded(raw), written)


def line_items(lines: Iterable[bytes], name: str, key: str) -> Iterator[Item]:
    """The texts under this key of each line's object; lines go to standard output."""
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        data = _object(raw)
        text = data.get(key)

        def written(result: Shortened | None, raw: bytes = raw, data: dict[str, Any] = data) -> None:
            if result is None:
                typer.echo(raw.rstrip(b"\r\n"))
            else:
                typer.echo(_line({**data, key: result.text}))

        yield Item(f"{name}:{number}", text if isinstance(text, str) else None, written)


def check_folder(folder: Path, files: Iterable[str]) -> None:
    """Makes the folder. Raises BadParameter where files would get one name there, or be overwritten."""
    names: dict[str, str] = {}
    for file in files:
        name = Path(file).name
        if not Path(file).is_file():
            raise typer.BadParameter(f"{file}: no such file", param_hint="FILE...")
        if name in names:
            raise typer.BadParameter(f"{file} would get the name of {names[name]}", param_hint="--out")
        if (folder / name).exists() and (folder / name).samefile(file):
            raise typer.BadParameter(f"{file} would be overwritten", param_hint="--out")
        names[name] = file
    folder.mkdir(parents=True, exist_ok=True)


def _line(data: dict[str, Any]) -> bytes:
    try:
        return json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a character in another value
        return json.dumps(data).encode()


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:  # not JSON, not UTF-8
        return {}
    return found if isinstance(found, dict) else {}


def _groups(items: Iterable[Item]) -> Iterator[list[Item]]:
    group: list[Item] = []
    size = 0
    for item in items:
        group.append(item)
        size += len(item.text or "")
        if size >= _CHARACTERS or len(group) >= _TEXTS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _shorten(
    compressor: Compressor, group: list[Item], options: CompressOptions, processes: int
) -> list[Shortened | CompressorError]:
    texts = [item.text for item in group if item.text is not None]
    found: Iterable[Shortened | CompressorError]
    try:
        found = compressor.compress_batch(texts, processes=processes, **options)
    except _OF_ONE_TEXT:
        found = [_shorten_one(compressor, text, options) for text in texts]  # to learn which
    results = iter(found)
    return [InvalidText("no UTF-8 text there") if item.text is None else next(results) for item in group]


def _shorten_one(compressor: Compressor, text: str, options: CompressOptions) -> Shortened | CompressorError:
    try:
        return compressor.compress(text, **options)
    except _OF_ONE_TEXT as error:
        return error
