import inspect
import json
import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text.kinds import KINDS, detect_kind
from compressor.text.line_text import goes_by_lines

PROSE = (
    "The council met on Tuesday. It agreed, after a long debate, to build the bridge. Nobody objected. " * 5
)
LOG = "\n".join(
    f"2024-03-05 10:00:{i:02d} INFO  worker-{i % 3} handled request {i * 7} in {i} ms" for i in range(30)
)
SYSLOG = "\n".join(
    f"Jan {i % 28 + 1:2d} 10:00:0{i % 10} host sshd[{i}]: Accepted publickey for root" for i in range(9)
)
GREP = "\n".join(f"src/app/module_{i}.py:{i * 3}: def handle(request):" for i in range(12))
DIFF = """diff --git a/x.py b/x.py
index 83db48f..bf2a9c1 100644
--- a/x.py
+++ b/x.py
@@ -1,4 +1,4 @@
 import os
-print("old")
+print("new")
 done()
"""
TRACE = """Traceback (most recent call last):
  File "/app/main.py", line 10, in <module>
    run()
  File "/app/run.py", line 5, in run
    step(1)
ValueError: bad value 5
"""
JAVA_TRACE = "java.lang.IllegalStateException: boom\n" + "\n".join(
    f"\tat com.example.Foo.bar{i}(Foo.java:{i})" for i in range(20)
)
HTML = "<!doctype html><html><head><title>T</title></head><body><h1>Hello</h1><p>Some text.</p></body></html>"
MARKDOWN = "# Title\n\nSome text with a [link](https://x.org).\n\n## Part\n\n- one\n- two\n\n```\ncode\n```\n"
TABLE = "| Name | Age |\n|------|-----|\n| Anna | 31  |\n| Bert | 45  |\n"
CSV = "name,age,city\nAnna,31,Paris\nBert,45,Rome\nCleo,22,Oslo\n"
GO = 'package main\n\nimport "fmt"\n\nfunc main() {\n\tx := 1\n\tfmt.Println(x)\n\treturn\n}\n'
BASE64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk" * 8


YAML = """\
# what runs where
services:
  web:
    image: nginx:1.27
    ports: [8080]
  worker:
    image: app:3
    # keep it alive
    restart: always
    command:
      - run
      - --fast
"""


def numbered(text: str, form: str) -> str:
    return "\n".join(form.format(number, line) for number, line in enumerate(text.splitlines(), 41))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (PROSE, "prose"),
        ("Hi", "prose"),
        ("我们在北京大学学习。" * 30, "prose"),
        ("Anna: Hello there, how are you?\nBert: Fine, thanks. And you?\n" * 10, "prose"),
        (LOG, "log"),
        (SYSLOG, "log"),
        ("[Sun Dec 04 06:02:07 2005] [error] mod_jk child workerEnv in error state 7\n" * 9, "log"),
        ("03-17 16:13:46.145  2227  2227 I PhoneStatusBar: suspendAutohide\n" * 9, "log"),
        ("31380 node-230 node temperature 1102354830 1 ambient=28\n" * 9, "log"),
        (GREP, "log"),
        (DIFF, "diff"),
        (TRACE, "stack-trace"),
        (JAVA_TRACE, "stack-trace"),
        (HTML, "html"),
        (MARKDOWN, "markdown"),
        (TABLE, "table"),
        (CSV, "table"),
        (inspect.getsource(textwrap), "code"),
        (numbered(inspect.getsource(textwrap), "{}:{}"), "code"),
        (numbered(inspect.getsource(textwrap), "{:6}\t{}"), "code"),
        ("[File: /a/b.py (90 lines total)]\n(40 more lines above)\n" + numbered(GO, "{}:{}"), "code"),
        (YAML, "code"),
        ("Anna: yes, that is what I thought.\nBen: and then we went home.\n" * 9, "prose"),
        (numbered("A sentence that somebody wrote down.\n" * 9, "{}: {}"), "prose"),
        (GO, "code"),
        (json.dumps({"a": [1, 2, {"b": "text " * 20}]}), "json"),
        ("\n".join(json.dumps({"i": i, "text": "x"}) for i in range(5)), "json"),
        (json.dumps({f"key {i}": "value" for i in range(9)}, indent=1)[:120], "json"),
        (BASE64, "base64"),
        ("data:image/png;base64," + BASE64, "base64"),
        ("[see the note below about brackets] and so on " * 5, "prose"),
        ('{"a": broken json that does not parse' + "x " * 30, "prose"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert detect_kind(text) == kind


PYTEST = "\n".join(f"tests/test_mod{i}.py ....................F....   [{i}%]" for i in range(20))
WRAPPED = """\
The committee discussed at great length whether the old bridge should
be repaired or replaced entirely, and who would have to pay for it if
the city did not. Nobody was sure. The engineers had brought a report,
which said that the foundations would hold for another twenty years at
least, provided that no heavy traffic was let onto it in the meantime,
and the mayor asked whether anybody had counted the lorries last year.
"""


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("-rw-r--r-- 1 root root 3485 Nov 25 21:34 gateway/app.py\n" * 9, True),
        (PYTEST, True),
        ("boto3            1.43.11\nJinja2           3.1.6\n" * 5, True),
        ("  1 | customer-1 |  7 | active\n" * 9, True),
        (WRAPPED, False),
        ("A paragraph of one line that somebody wrote down, and went on with for long. " * 4 + "\n", False),
        ("会议讨论了桥梁是否应该修复。\n" * 9, False),
        ("| a | b |\n|---|---|\n" + "| some words | 2 |\n" * 9, False),
        ("", False),
    ],
)
def test_rows_are_told_from_sentences(text: str, rows: bool) -> None:
    assert goes_by_lines(text) is rows


@given(st.text(st.characters()))
def test_any_text_has_a_kind(text: str) -> None:
    assert detect_kind(text) in KINDS


@pytest.mark.parametrize(
    "unit", ["\n", " ", "<", "[", "{", "a,", "|", "    ", "A" * 59 + " ", "#", "at f (", "- ", "[["]
)
def test_linear_time_on_hostile_text(unit: str) -> None:
    began = time.process_time()
    detect_kind(unit * (1_000_000 // len(unit)))
    assert time.process_time() - began < 4


def test_long_json_between_paragraphs_does_not_make_them_code() -> None:
    found = {f"key_{number}_url": f"https://example.org/x/{number}" for number in range(60)}
    document = json.dumps({"action": "created", "repository": found}, indent=2)
    paragraph = "This is what the server said this morning when we asked it for the item.\n" * 6
    assert detect_kind(f"{paragraph}\n```json\n{document}\n```\n{paragraph}") == "prose"
    assert detect_kind(paragraph + document + "\n" + paragraph) == "prose"
    keys = "\n".join(f"  key_{number}: value {number}" for number in range(30))
    assert detect_kind("settings:\n" + keys) == "code"
    commented = "\n".join(f'  "editor.key{n}": {{\n    "a{n}": {n}, // note\n  }},' for n in range(30))
    assert detect_kind("// settings\n{\n" + commented + "\n}\n") == "code"
