"""terse.yaml: the design's own example, and every mistake with its file, line, key and what was expected."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from compressor.shapes import PROTECTABLE
from gateway.config import CompressorSettings, Config, ModelConfig, UpstreamConfig
from gateway.configuration_file import Reading, built_in_config, load_config, parse_config, read_config
from gateway.settings import Settings, load_settings, read_environment
from policies import entries
from policies.errors import ConfigurationError
from policies.shapes import KeepRange

ENVIRONMENT = {
    "OPENAI_API_KEY": "sk-one",
    "ANTHROPIC_API_KEY": "sk-two",
    "REDIS_URL": "redis://cache:6379/1",
    "HUSH": "hush",
}
EXAMPLE = """\
upstreams:
  openai:  {base_url: https://api.openai.com/v1, api_key: env/OPENAI_API_KEY}
  claude:  {litellm: anthropic, api_key: env/ANTHROPIC_API_KEY}
models:
  gpt-4o-mini: {upstream: openai}
  sonnet:      {upstream: claude, model: claude-sonnet-4-5, fallbacks: [gpt-4o-mini]}
compressor: {model: default, device: auto}      # deadline_ms: 400 on a GPU, 5000 on a CPU
store: env/REDIS_URL                      # absent: in-process
policies:
  default: {mode: on, trigger_tokens: 1024, keep: 0.5, protect: [system, instruction, code, json, numbers]}
  rag:     {extends: default, question_aware: true, ranges: [{from: 2000, keep: 0.5}], max_input_tokens: 6000}
teams:
  search:
    budget: {usd: 200, per: month}
    limits: {requests_per_minute: 600, tokens_per_minute: 400000}
    pressure: [{spent: 0.8, keep: 0.4}, {spent: 0.95, keep: 0.3}]
routes:
  - {match: {model: "gpt-*", team: search, path: /v1/chat/completions}, policy: rag}
  - {match: {model: "*"}, policy: default}
"""


def parse(text: str, environment: dict[str, str] | None = None, **more: bool) -> Reading:
    lookup = (ENVIRONMENT if environment is None else environment).get
    return parse_config(text, "terse.yaml", load_settings({}), environment=lookup, **more)


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        parse(text)
    return str(raised.value).split("\n")


def test_the_designs_example() -> None:
    reading = parse(EXAMPLE)
    config = reading.config
    assert reading.warnings == ()
    assert config.upstreams["openai"].base_url == "https://api.openai.com/v1"
    key = config.upstreams["claude"].api_key
    assert key is not None and key.reveal() == "sk-two"
    assert config.models["sonnet"] == ModelConfig(
        "sonnet", "claude", "claude-sonnet-4-5", fallbacks=("gpt-4o-mini",)
    )
    assert config.store is not None and config.store.reveal() == "redis://cache:6379/1"
    assert config.policies["default"].mode == "on"
    rag = config.policies["rag"]
    assert (rag.keep, rag.question_aware, rag.ranges, rag.max_input_tokens) == (
        0.5,
        True,
        (KeepRange(2000, 0.5),),
        6000,
    )
    assert rag.protect == ("system", "instruction", "code", "json", "numbers")
    assert [route.policy for route in config.routes] == ["rag", "default"]
    assert config.file == "terse.yaml"


def test_the_shipped_example_file_is_good_and_names_every_key() -> None:
    text = (Path(__file__).parents[2] / "terse.example.yaml").read_text()
    reading = parse_config(text, "terse.example.yaml", load_settings({}), secrets_needed=False)
    assert reading.warnings == ()
    models = (
        entries.PolicyEntry,
        entries.TeamEntry,
        entries.RouteEntry,
        entries.MatchEntry,
        entries.BudgetEntry,
    )
    for model in (*models, entries.LimitsEntry, entries.ScheduleEntry):
        for name, field in model.model_fields.items():
            assert f"{field.alias or name}:" in text, f"{model.__name__}.{name}"


PAGES = ("configuration", "policies", "quality", "recovery")


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_the_documentation_are_good(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / f"{page}.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        assert parse(block, {}, secrets_needed=False).config


def test_every_key_of_a_policy_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    assert [key for key in entries.PolicyEntry.model_fields if f"`{key}`" not in text] == []


def test_an_empty_file_is_the_built_in_configuration() -> None:
    config = parse("# nothing\n").config
    assert config.upstreams == {"offline": UpstreamConfig("offline", offline=True)}
    assert config.models == {"*": ModelConfig("*", "offline")}
    assert config.compressor == CompressorSettings()
    assert config.store is None
    assert config.routes == ()


def test_built_in_defaults_follow_the_environment() -> None:
    settings = load_settings({"OPENAI_API_KEY": "sk-x", "REDIS_URL": "redis://r"})
    config = built_in_config(settings)
    assert config.upstreams["openai"].base_url == "https://api.openai.com/v1"
    assert config.models["*"].upstream == "openai"
    assert config.store is not None and config.store.reveal() == "redis://r"
    assert config.policies["default"].fingerprint


def test_secrets_never_show() -> None:
    shown = repr(parse(EXAMPLE).config)
    assert "sk-one" not in shown and "redis://cache" not in shown


def test_one_upstream_needs_no_models() -> None:
    config = parse("upstreams: {local: {base_url: 'http://127.0.0.1:8000/v1/'}}").config
    assert config.models == {"*": ModelConfig("*", "local")}
    assert config.upstreams["local"].base_url == "http://127.0.0.1:8000/v1"
    assert parse("upstreams: {local: {offline: yes}}\nmodels: {a: , b: {model: c}}").config.models == {
        "a": ModelConfig("a", "local"),
        "b": ModelConfig("b", "local", "c"),
    }


def test_store_follows_the_file_then_the_environment() -> None:
    settings = load_settings({"REDIS_URL": "redis://from-settings"})
    read = lambda text: parse_config(text, "f", settings, environment={}.get).config.store  # noqa: E731
    assert read("policies: {}") == settings.redis_url
    assert read("store: env/REDIS_URL") is None
    assert read("store: ") is None


def test_yaml_words() -> None:
    hours = "schedule: [{from: 22:00, to: 6:30}]"
    text = f"policies: {{a: {{mode: on}}, b: {{mode: off}}, c: {{mode: audit, {hours}}}, d: {{mode: 'on'}}}}"
    policies = parse(text).config.policies
    assert [policies[name].mode for name in "abcd"] == ["on", "off", "audit", "on"]
    assert (policies["c"].schedule[0].start_minute, policies["c"].schedule[0].end_minute) == (1320, 390)
    numbers = parse(
        "upstreams: {l: {offline: true}}\nmodels: {a: {input_price: 1e-7, context_window: 1_000_000}}"
    ).config
    assert (numbers.models["a"].input_price, numbers.models["a"].context_window) == (1e-7, 1_000_000)


def test_anchors_and_merge_keys() -> None:
    text = "policies:\n  a: &a {keep: 0.4, holdout: 0.1}\n  b: {<<: *a, keep: 0.3}\n"
    policy = parse(text).config.policies["b"]
    assert (policy.keep, policy.holdout) == (0.3, 0.1)


def table_of_mistakes() -> list[tuple[str, str]]:
    """Pairs of a file's text and the one complaint that it draws."""
    text = (Path(__file__).parent / "configuration_mistakes.txt").read_text()
    pairs = [block.rstrip("\n").split("\n=> ") for block in text.split("\n----\n")[1:]]
    return [(given, message) for given, message in pairs]


@pytest.mark.parametrize(("text", "message"), table_of_mistakes())
def test_each_mistake_has_its_file_line_key_and_expectation(text: str, message: str) -> None:
    assert mistakes(text) == [f"terse.yaml:{message}"]


def test_control_characters_and_depth() -> None:
    assert mistakes("policies: {}\nx: \x07") == [
        "terse.yaml:2: expected printable text; found the character U+0007"
    ]
    deep = mistakes("policies: " + "[" * 40 + "]" * 40)
    assert f"terse.yaml:1: policies{'[0]' * 30}: expected at most 30 levels of nesting" in deep


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
routes:
  - {match: {model: ""}, policy: ragg}
policies:
  rag: {keep: 2, extends: defualt}
models:
  m: {upstream: opnai, input_price: 5, fallbacks: [x]}
upstreams:
  openai: {base_url: nowhere}
"""
    assert [line.split(": ")[:2] for line in mistakes(text)] == [
        ["terse.yaml:2", "routes[0].match.model"],
        ["terse.yaml:2", "routes[0].policy"],
        ["terse.yaml:4", "policies.rag.keep"],
        ["terse.yaml:4", "policies.rag.extends"],
        ["terse.yaml:6", "models.m.input_price"],
        ["terse.yaml:6", "models.m.upstream"],
        ["terse.yaml:6", "models.m.fallbacks[0]"],
        ["terse.yaml:8", "upstreams.openai.base_url"],
    ]


def test_unset_variables_are_no_mistake_where_secrets_are_not_needed() -> None:
    reading = parse(EXAMPLE, {}, secrets_needed=False)
    assert [error.key for error in reading.unset] == ["upstreams.openai.api_key", "upstreams.claude.api_key"]
    assert reading.warnings == ()


def test_doubts_are_warnings() -> None:
    text = (
        EXAMPLE + "  - {match: {team: serach}, policy: rag}\n  - {match: {model: gtp-4o-mini}, policy: rag}\n"
    )
    assert [str(warning) for warning in parse(text).warnings] == [
        "terse.yaml:20: routes[2]: never reached: routes[1] takes all of its requests",
        (
            "terse.yaml:20: routes[2].match.team: no team 'serach' in this file (did you mean 'search'?); "
            "it may come from the admin API"
        ),
        "terse.yaml:21: routes[3]: never reached: routes[1] takes all of its requests",
        (
            "terse.yaml:21: routes[3].match.model: no model 'gtp-4o-mini' in this file "
            "(did you mean 'gpt-4o-mini'?)"
        ),
    ]


def test_a_few_aliases_that_stand_for_billions_of_values() -> None:
    lines = ["a0: &a0 x"] + [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 9) + "]" for i in range(1, 20)]
    started = time.perf_counter()
    assert mistakes("\n".join(lines)) == [
        "terse.yaml:1: expected at most 30 levels of nesting and 250000 values"
    ]
    assert time.perf_counter() - started < 20


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        reading = parse(text)
    except ConfigurationError as error:
        assert all(problem.file == "terse.yaml" for problem in error.problems)
    else:
        assert reading.config.policies["default"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("abkeep.*/ 1", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "upstream",
                    "base_url",
                    "keep",
                    "ranges",
                    "from",
                    "budget",
                    "usd",
                    "match",
                    "model",
                    "policy",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["upstreams", "models", "compressor", "store", "policies", "teams", "routes"]), plain
    )
)
def test_any_structure_is_read_or_refused(data: dict[str, object]) -> None:
    text = yaml.safe_dump(data)
    try:
        config = parse(text).config
    except ConfigurationError as error:
        assert error.problems
        assert all(problem.line >= 1 and str(problem) for problem in error.problems)
    else:
        assert isinstance(config, Config)


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    def error_of(path: Path) -> str:
        with pytest.raises(ConfigurationError) as raised:
            load_config(str(path), Settings())
        return str(raised.value)

    assert error_of(tmp_path / "gone.yaml") == f"{tmp_path}/gone.yaml: no such file"
    assert error_of(tmp_path) == f"{tmp_path}: Is a directory"
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"# ok\npolicies: {caf\xe9: {}}\n")
    assert error_of(latin) == f"{latin}:2: expected UTF-8"
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(20 * 1024 * 1024)
    assert error_of(huge) == f"{huge}: expected at most 16777216 bytes; got 20971520"


def test_which_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None, Settings()).file == ""
    (tmp_path / "terse.yaml").write_bytes(b"\xef\xbb\xbfpolicies: {}\n")  # with a byte order mark
    assert load_config(None, Settings()).file == "terse.yaml"
    (tmp_path / "other.yaml").write_text("policies: {x: {}}")
    assert load_config(None, Settings(config_file="other.yaml")).file == "other.yaml"
    assert "x" in read_config(str(tmp_path / "other.yaml"), Settings()).config.policies


def test_warnings_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "terse.yaml"
    file.write_text("routes: [{match: {}, policy: off}, {match: {}, policy: default}]")
    with caplog.at_level(logging.WARNING):
        load_config(str(file), Settings())
    assert "never reached" in caplog.text


def test_references_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-env")
    assert read_environment("SOME_KEY") == "sk-env"
    config = parse_config("upstreams: {u: {litellm: x, api_key: env/SOME_KEY}}", "f", Settings()).config
    key = config.upstreams["u"].api_key
    assert key is not None and key.reveal() == "sk-env"


def test_policies_and_compressor_protect_the_same_kinds() -> None:
    assert set(entries.PROTECTABLE) == PROTECTABLE | {"system", "instruction"}


def test_a_thousand_teams_in_a_moment() -> None:
    text = "teams:\n" + "".join(
        f"  team-{i}: {{budget: {{usd: {i + 1}}}, limits: {{requests_per_minute: 9}}}}\n" for i in range(1000)
    )
    started = time.perf_counter()
    assert len(parse(text).config.teams) == 1000
    assert time.perf_counter() - started < 2.0  # 0.1 s where it was written
