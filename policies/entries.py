"""What `policies:`, `teams:` and `routes:` of terse.yaml may say: one pydantic model an entry.

Strict: text is no number and a number is no text. `policies.load` turns these into the frozen shapes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from policies.checking import STRICT, Expect
from policies.shapes import Mode, Period

# The compressor's kinds of protected spans, and the two that only a conversation has. policies may not
# import compressor; a test of the gateway holds both lists together.
PROTECTABLE = (
    "system",
    "instruction",
    "code",
    "json",
    "numbers",
    "identifiers",
    "urls",
    "negations",
    "tags",
    "tables",
)
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

LARGEST_USD = 1e9  # nobody's period budget; above it, somebody slipped
LARGEST_TOKENS = 10**13
LARGEST_CONTEXT = 10**8  # tokens of one request; far above every model's window
LARGEST_DEADLINE_MS = 600_000


def _mode(value: Any) -> Any:
    """YAML 1.1 readers and JSON give `on` and `off` as booleans."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _flag(value: Any) -> Any:
    """YAML 1.1 has `yes`, `no`, `on` and `off` for booleans; people go on writing them."""
    words = {"yes": True, "on": True, "no": False, "off": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


ModeField = Annotated[Mode, BeforeValidator(_mode), Expect("one of off, audit, on")]
Flag = Annotated[bool, BeforeValidator(_flag), Expect("true or false")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), Expect("a share from 0 to 1 (10 % is 0.1)")]
Keep = Annotated[
    float,
    Field(gt=0, le=1, allow_inf_nan=False),
    Expect("a share above 0, at most 1 (half of the tokens is 0.5)"),
]
Tokens = Annotated[int, Field(ge=0, le=LARGEST_CONTEXT), Expect("a whole number of tokens, 0 or more")]
SomeTokens = Annotated[int, Field(ge=1, le=LARGEST_CONTEXT), Expect("a whole number of tokens, 1 or more")]
Milliseconds = Annotated[
    int, Field(ge=1, le=LARGEST_DEADLINE_MS), Expect("a whole number of milliseconds from 1 to 600000")
]
Rate = Annotated[int, Field(ge=1, le=LARGEST_TOKENS), Expect("a whole number, 1 or more")]
Text = Annotated[str, Expect("text")]
Name = Annotated[str, Field(min_length=1), Expect("a name")]
Glob = Annotated[str, Field(min_length=1), Expect("a name or a glob such as 'gpt-*' (not empty)")]
Globs = Annotated[list[Glob], BeforeValidator(_one_or_many), Expect("a list of names or globs, none empty")]
Protect = Annotated[
    Literal[
        "system",
        "instruction",
        "code",
        "json",
        "numbers",
        "identifiers",
        "urls",
        "negations",
        "tags",
        "tables",
    ],
    Expect("one of " + ", ".join(PROTECTABLE)),
]
Day = Annotated[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], Expect("one of " + ", ".join(DAYS))]
Clock = Annotated[
    str, Field(pattern=r"^(?:[01]?\d|2[0-3]):[0-5]\d$|^24:00$"), Expect("a time of day such as 07:30")
]
Metadata = dict[Name, Text]


def _some_days(days: Any) -> Any:
    if not days:
        raise PydanticCustomError("expected", "{what}", {"what": "at least one of " + ", ".join(DAYS)})
    return days


Days = AfterValidator(_some_days)


class RangeEntry(BaseModel):
    """`{from: 2000, keep: 0.5}`"""

    model_config = STRICT
    from_: Tokens = Field(alias="from")
    keep: Keep


class PressureEntry(BaseModel):
    """`{spent: 0.8, keep: 0.4}`"""

    model_config = STRICT
    spent: Share
    keep: Keep


class ScheduleEntry(BaseModel):
    """`{days: [mon, tue], from: "22:00", to: "06:00", timezone: UTC}`; over midnight when `to` is earlier."""

    model_config = STRICT
    days: Annotated[list[Day], BeforeValidator(_one_or_many), Days] = [
        "mon",
        "tue",
        "wed",
        "thu",
        "fri",
        "sat",
        "sun",
    ]
    from_: Clock = Field(default="00:00", alias="from")
    to: Clock = "24:00"
    timezone: Name = "UTC"


class RuleEntry(BaseModel):
    """`{mode: off}` or `{keep: 0.3}`: of one role or one tool. `off` alone is short for `{mode: off}`."""

    model_config = STRICT
    mode: ModeField | None = None
    keep: Keep | None = None


class OldResultsEntry(BaseModel):
    """`{newest: 3, keep: 0.25}`, or `off`."""

    model_config = STRICT
    newest: Annotated[int, Field(ge=1, le=1000), Expect("a whole number from 1 to 1000")] = 3
    keep: Share = 0.25


def _old_results(value: Any) -> Any:
    """YAML reads `off` as false."""
    if value in ("off", False):
        return None
    return {} if value in ("on", True) else value


def _rule(value: Any) -> Any:
    if isinstance(value, str | bool):
        return {"mode": value}
    return {"keep": value} if isinstance(value, int | float) else value


Rule = Annotated[RuleEntry, BeforeValidator(_rule)]
Role = Annotated[
    Literal["system", "developer", "user", "assistant", "tool", "function"],
    Expect("one of " + ", ".join(ROLES)),
]


class PolicyEntry(BaseModel):
    """One entry of `policies:`. Absent keys come from `extends`, then from the built-in default."""

    model_config = STRICT
    extends: Name | None = None
    mode: ModeField = "on"
    trigger_tokens: Tokens = 1024
    keep: Keep = 0.5
    ranges: list[RangeEntry] = []
    max_input_tokens: SomeTokens | None = None
    protect: list[Protect] = ["system", "instruction", "code", "json", "numbers", "identifiers", "urls"]
    force_tokens: list[Name] = []
    question_aware: Flag = False
    roles: dict[Role, Rule] = {}
    tools: dict[Glob, Rule] = {}
    sample: Share = 1.0
    holdout: Share = 0.0
    shadow: Share = 0.0
    min_quality: Share | None = None
    fail: Annotated[Literal["open", "closed"], Expect("open or closed")] = "open"
    store_fail: Annotated[Literal["open", "closed"], Expect("open or closed")] = "open"
    deadline_ms: Milliseconds | None = None
    min_keep: Keep = 0.1
    client_override: Flag = True
    recovery: Flag = False
    latency: Annotated[Literal["ignore", "weigh", "bound"], Expect("ignore, weigh or bound")] = "ignore"
    fold: Flag = True
    old_results: Annotated[OldResultsEntry | None, BeforeValidator(_old_results)] = OldResultsEntry()
    schedule: list[ScheduleEntry] = []


class BudgetEntry(BaseModel):
    """`{usd: 200, per: month}`"""

    model_config = STRICT
    usd: (
        Annotated[
            float,
            Field(gt=0, le=LARGEST_USD, allow_inf_nan=False),
            Expect("an amount of USD above 0 (to stop a team, set blocked: true)"),
        ]
        | None
    ) = None
    tokens: (
        Annotated[int, Field(ge=1, le=LARGEST_TOKENS), Expect("a whole number of tokens above 0")] | None
    ) = None
    per: Annotated[Period, Expect("one of minute, hour, day, week, month")] = "month"
    sliding: Flag = False


class LimitsEntry(BaseModel):
    """`{requests_per_minute: 600, tokens_per_minute: 400000, concurrent_requests: 50}`"""

    model_config = STRICT
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    concurrent_requests: Rate | None = None


Budgets = Annotated[list[BudgetEntry], BeforeValidator(_one_or_many)]


class TeamEntry(BaseModel):
    """One entry of `teams:`."""

    model_config = STRICT
    budget: Budgets = []
    limits: LimitsEntry = LimitsEntry()
    models: Globs = []
    pressure: list[PressureEntry] = []
    blocked: Flag = False
    metadata: Metadata = {}


class MatchEntry(BaseModel):
    """The `match:` of a route."""

    model_config = STRICT
    model: Glob = "*"
    team: Glob = "*"
    path: Glob = "*"
    headers: dict[Name, Glob] = {}
    metadata: dict[Name, Glob] = {}


class RouteEntry(BaseModel):
    """One entry of `routes:`."""

    model_config = STRICT
    name: Name | None = None
    match: MatchEntry
    policy: Name
    budget: Budgets = []
