"""A YAML file as plain data that remembers on which line each value stands.

YAML 1.2's core schema: only `true` and `false` are booleans (so `mode: on` is a word), `22:00` is text and
`1e-6` is a number. A key that is given twice, or that is no text, is a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from policies.errors import Path, PolicyError, Problem

# `env/NAME` stands for the environment variable of that name, wherever a value may stand.
_REFERENCE = re.compile(r"env/([A-Za-z_][A-Za-z0-9_]*)")

# A configuration of a thousand teams is under 1 MB; beyond this it is no configuration.
LARGEST_FILE_BYTES = 16 * 1024 * 1024
_DEEPEST = 30  # nesting; the deepest real path has six steps
_MOST_VALUES = 250_000  # after aliases are followed: a few of them can stand for billions of values
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null"))


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its data, the line of every path, and which values came from the environment."""

    file: str
    data: dict[str, Any]
    lines: Mapping[Path, int]
    references: Mapping[Path, str]  # path -> name of the environment variable
    unset: Mapping[Path, str]  # references whose variable is unset; their value is None
    problems: tuple[Problem, ...] = ()

    def line(self, path: Path) -> int:
        """The line of the path, or of the nearest thing around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1

    def error(self, problem: Problem) -> PolicyError:
        """The problem with its file and line."""
        return PolicyError(problem.message, file=self.file, line=self.line(problem.path), key=problem.key)


# libyaml's parser is ten times as fast as PyYAML's own; both build the same nodes.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """SafeLoader with YAML 1.2's core schema instead of 1.1's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own table


_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), [*_first, ""]
    )


@dataclass(slots=True)
class _Reader:
    """Walks the nodes of one document."""

    lookup: Callable[[str], str | None]
    loader: _Loader
    lines: dict[Path, int] = field(default_factory=dict)
    references: dict[Path, str] = field(default_factory=dict)
    unset: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    values: int = 0

    def read(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        self.values += 1
        if self.values > _MOST_VALUES:
            raise RecursionError
        if len(path) > _DEEPEST:
            self.problems.append(Problem(path, f"expected at most {_DEEPEST} levels of nesting"))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        own, merged = _split_merges(node)
        data: dict[str, Any] = {}
        for key_node, value_node in [*own, *merged]:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key == "":
                self.problems.append(Problem(path, "expected keys that are text"))
                continue
            here = (*path, key)
            if key in data:
                if (key_node, value_node) in own:
                    first = self.lines[here]
                    line = key_node.start_mark.line + 1
                    self.problems.append(
                        Problem(here, f"expected once; it stands on line {first} and line {line}")
                    )
                continue
            self.lines[here] = key_node.start_mark.line + 1
            data[key] = self.read(value_node, here)
        return data

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        value: Any = None
        try:
            if node.tag == "tag:yaml.org,2002:int":
                value = _integer(node)
            elif node.tag in _PLAIN_TAGS:
                value = self.loader.construct_object(node)
            else:
                raise ValueError
        except (yaml.YAMLError, ValueError):
            self.problems.append(Problem(path, "expected plain text, a number, true or false"))
            return None
        if isinstance(value, str) and (found := _REFERENCE.fullmatch(value)) is not None:
            self.references[path] = found[1]
            value = self.lookup(found[1]) or None
            if value is None:
                self.unset[path] = found[1]
        return value


def read_document(text: str, file: str, lookup: Callable[[str], str | None]) -> Document:
    """The file's text as a Document. Raises PolicyError with the line where it is no YAML.

    `lookup` gives the value of an environment variable, None when it is unset.
    """
    loader = _Loader(_printable(text, file))
    try:
        node = loader.get_single_node()
        reader = _Reader(lookup, loader)
        data = {} if node is None else reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, file) from None
    except RecursionError:
        what = f"expected at most {_DEEPEST} levels of nesting and {_MOST_VALUES} values"
        raise PolicyError(what, file=file, line=1) from None
    finally:
        loader.dispose()
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise PolicyError("expected a mapping (`policies:`, `routes:` …) at the top", file=file, line=1)
    problems = tuple(reader.problems)
    return Document(file, data, reader.lines, reader.references, reader.unset, problems)


def _printable(text: str, file: str) -> str:
    """PyYAML refuses control characters with an error that has no line."""
    for number, line in enumerate(text.split("\n"), start=1):
        found = yaml.reader.Reader.NON_PRINTABLE.search(line)
        if found is not None:
            what = f"expected printable text; found the character U+{ord(found[0]):04X}"
            raise PolicyError(what, file=file, line=number)
    return text


def _split_merges(
    node: yaml.MappingNode,
) -> tuple[list[tuple[yaml.Node, yaml.Node]], list[tuple[yaml.Node, yaml.Node]]]:
    """A mapping's own pairs, and those that `<<: *anchor` brings in (which its own override)."""
    own: list[tuple[yaml.Node, yaml.Node]] = []
    merged: list[tuple[yaml.Node, yaml.Node]] = []
    for key, value in node.value:
        if key.tag != "tag:yaml.org,2002:merge":
            own.append((key, value))
            continue
        for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if isinstance(source, yaml.MappingNode):
                merged += source.value
    return own, merged


def _integer(node: yaml.Node) -> int:
    """YAML 1.2: a leading 0 is no octal, a colon no base 60."""
    digits = node.value.replace("_", "")
    return int(digits, 0) if digits[:2] in ("0x", "0o") else int(digits)


def _syntax_error(error: yaml.MarkedYAMLError, file: str) -> PolicyError:
    mark = error.problem_mark or error.context_mark
    context = f" ({error.context})" if error.context else ""
    line = mark.line + 1 if mark is not None else 1
    return PolicyError(f"expected YAML: {error.problem}{context}", file=file, line=line)
