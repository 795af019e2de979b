"""Long texts of every kind that the choice of words treats in its own way, made up and the same each time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

_SENTENCE = "The council spoke about the budget of the city, and then of the road and the school."
_CODE = """def settle(account: Account) -> int:
    # What is open is paid first.
    for entry in account.entries:
        if entry.open and entry.amount > 3:
            account.pay(entry, note="settled")
    return account.balance


"""
_HTML = """<div class="item"><h3>Road works</h3><p>The council spoke about the budget of the city.</p>
<!-- more --><ul><li><a href="/r/1">The road</a></li><li>The school</li></ul></div>
"""
_MARKDOWN = """## What was agreed

Some *words* of the council, see [the report](http://city.example/r) and `budget.total`.

```python
total = 1
```

* the road is repaired in autumn
* the school waits

"""
_YAML = """- name: road
  owner: council
  steps:
    - run: plan the works
    - run: ask the school
"""
_DIFF = """diff --git a/road.py b/road.py
--- a/road.py
+++ b/road.py
@@ -1,3 +1,3 @@
 def pave(road):
-    return road.paved
+    return road.paved and road.open
"""
_JAPANESE = "市議会は予算について話し合い、秋までに道路を完成させることを決めた。委員長は質問に答えた。\n"
_RUSSIAN = "Совет говорил о бюджете города и решил, что дорога будет готова к осени.\n"


def _log(draw: random.Random, number: int) -> str:
    took = draw.randint(1, 999)
    at = f"2026-11-26 12:{number // 60 % 60:02}:{number % 60:02}"
    return f"{at} INFO worker-{number % 7} request {number} took {took} ms\n"


def _row(draw: random.Random, number: int) -> str:
    return f"| n{number} | Berlin | {draw.randint(1, 9999)} |\n"


def _record(draw: random.Random, number: int) -> str:
    return json.dumps({"id": number, "score": draw.random(), "text": _SENTENCE, "tags": ["road", "school"]})


def _repeated(piece: str) -> Callable[[random.Random, int], str]:
    return lambda _draw, _number: piece


# Kind -> who says it, what it begins with, and how its piece number n reads.
KINDS: dict[str, tuple[str, str, Callable[[random.Random, int], str]]] = {
    "log": ("tool", "", _log),
    "JSON": ("tool", "[", lambda draw, number: "," * (number > 0) + _record(draw, number)),
    "JSON lines": ("tool", "", lambda draw, number: _record(draw, number) + "\n"),
    "JSON, one string": ("tool", '{"content": "', lambda draw, _: draw.choice([_SENTENCE, "\\n"]) + " "),
    "table": ("tool", "| name | city | amount |\n|---|---|---|\n", _row),
    "code": ("tool", "", _repeated(_CODE)),
    "YAML": ("tool", "", _repeated(_YAML)),
    "HTML": ("tool", "", _repeated(_HTML)),
    "diff": ("tool", "", _repeated(_DIFF)),
    "Markdown": ("user", "", _repeated(_MARKDOWN)),
    "Japanese": ("user", "", _repeated(_JAPANESE)),
    "Russian": ("user", "", _repeated(_RUSSIAN)),
    "one letter": ("user", "", _repeated("a" * 1024)),
}
_ENDINGS = {"JSON": "]", "JSON, one string": '"}'}


def text_of_kind(kind: str, size: int) -> str:
    """So many bytes of it in a request's body, or a little less."""
    _, begins, piece = KINDS[kind]
    draw = random.Random(size)
    parts, number = [begins], 0
    left = size - len(begins) - 2
    while True:
        part = piece(draw, number)
        left -= len(json.dumps(part, ensure_ascii=False).encode()) - 2
        if left < 0:
            break
        parts.append(part)
        number += 1
    return "".join([*parts, _ENDINGS.get(kind, "")])


def messages_of_kind(kind: str, size: int) -> list[dict[str, object]]:
    """A conversation in which a user, or a tool, has said so much."""
    text = text_of_kind(kind, size)
    if KINDS[kind][0] == "user":
        return [{"role": "user", "content": text + "\n\nWhat was agreed?"}]
    call = {"id": "call_1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    return [
        {"role": "user", "content": "Read it."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": text},
        {"role": "user", "content": "What was agreed?"},
    ]
