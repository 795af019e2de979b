"""`terse policy explain`: which route a request would take, why, and how much of it would be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from compressor.text.tokens import counter_for
from gateway.accounting.prices import Prices
from gateway.chat.conversation import read_conversation
from gateway.chat.segments import split_messages
from gateway.config import Config, ModelConfig
from gateway.configuration.connections import model_named
from gateway.shapes import ParsedRequest
from policies.checking import suggest
from policies.errors import PolicyError
from policies.match import Explanation, PolicyBook
from policies.planning import parse_wish, plan_budget, plan_turn, rule_for
from policies.shapes import Plan, Policy, PressureStep, RequestFacts


@dataclass(frozen=True, slots=True)
class Question:
    """One request to explain. `compressible` None: all of its tokens may be shortened."""

    model: str
    team: str
    path: str
    tokens: int
    at: datetime
    compressible: int | None = None
    earlier: int = 0  # further compressible tokens, in messages that were sent before
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    spent: float = 0.0
    draw: float | None = None  # None: neither sampled out nor held out, whatever the shares
    request: ParsedRequest | None = None  # its texts are looked at, instead of `tokens` and `compressible`


@dataclass(frozen=True, slots=True)
class Part:
    """One text of a request: how large it is, and why it stays ("" when it may be shortened)."""

    message: int
    role: str
    kind: str
    tokens: int
    stays: str
    keep: float | None  # of its own, by role or tool
    earlier: bool = False  # sent before: it keeps the form that it has


@dataclass(frozen=True, slots=True)
class Answer:
    """What would happen to it."""

    explanation: Explanation
    plan: Plan
    model: ModelConfig
    tokens_before: int
    tokens_after: int
    notes: tuple[str, ...]
    parts: tuple[Part, ...] = ()


def explain(config: Config, question: Question) -> Answer:
    """The answer. Raises PolicyError when the model, or a team named in full, is not in the configuration."""
    model = model_named(question.model, config.models)
    if model is None:
        raise PolicyError(f"unknown model {question.model!r}{suggest(question.model, config.models)}")
    notes = list(_team_notes(config, question.team))
    facts = RequestFacts(
        model=question.model,
        team=question.team,
        path=question.path,
        headers={name.lower(): value for name, value in question.headers.items()},
        metadata=question.metadata,
    )
    explanation = PolicyBook(config.policies, config.routes).explain(facts)
    policy = explanation.match.policy
    named = model if model.model else replace(model, model=question.model)
    parts = _parts(question.request, policy, named) if question.request is not None else ()
    total, free, earlier = _sizes(question, parts)
    if question.request is None and question.compressible is None:
        notes.append("counted as if every token may be shortened; give --compressible for what really may")
    if question.draw is None and (policy.sample < 1 or policy.holdout > 0):
        share = policy.sample * (1 - policy.holdout)
        notes.append(f"explained for the {share:.4g} of the conversations that sample and holdout leave in")
    price = Prices().of(named, config.upstreams[model.upstream])

    def planned(compressible: int, whole: int) -> Plan:
        return plan_budget(
            policy,
            compressible_tokens=compressible,
            total_tokens=whole,
            wish=parse_wish(facts.headers.get("x-terse-compress")),
            spent_share=question.spent,
            pressure=_pressure(config, question.team),
            context_window=price.context_window,
            # Just inside the touched share, past the held-out part of it.
            draw=policy.sample * policy.holdout if question.draw is None else question.draw,
            at=question.at,
        )

    trigger = policy.trigger_tokens
    plan = plan_turn(planned, new=free, earlier=earlier, total=total, trigger_tokens=trigger)
    if earlier:
        notes.append(f"{earlier} compressible tokens were sent before: they keep the form that they have")
    after = total - (free - plan.target if plan.compress and plan.mode == "on" else 0)
    return Answer(explanation, plan, model, total, after, tuple(notes), parts)


def answer_as_data(answer: Answer, question: Question) -> dict[str, object]:
    """For `--json`."""
    plan, match = answer.plan, answer.explanation.match
    return {
        "model": question.model,
        "team": question.team,
        "path": question.path,
        "upstream": answer.model.upstream,
        "upstream_model": answer.model.model or question.model,
        "route": match.route,
        "policy": match.policy.name,
        "reason": match.reason,
        "routes": [
            {
                "route": verdict.route,
                "policy": verdict.policy,
                "matches": verdict.matched,
                "chosen": verdict.chosen,
                "reason": verdict.reason,
            }
            for verdict in answer.explanation.routes
        ],
        "mode": plan.mode,
        "compress": plan.compress,
        "skip_reason": plan.reason,
        "keep": plan.keep,
        "tokens_before": answer.tokens_before,
        "compressible": plan.compressible,
        "earlier": plan.earlier,
        "target": plan.target,
        "tokens_after": answer.tokens_after,
        "steps": list(plan.steps),
        "notes": list(answer.notes),
        "parts": [asdict(part) for part in answer.parts],
    }


def answer_as_text(answer: Answer, question: Question) -> str:
    """For people."""
    plan, match = answer.plan, answer.explanation.match
    lines = [
        f"model {question.model} -> upstream {answer.model.upstream}",
        f"policy {match.policy.name}: {match.reason}",
    ]
    for verdict in answer.explanation.routes:
        mark = "*" if verdict.chosen else " "
        lines.append(f" {mark} route {verdict.route} ({verdict.policy}): {verdict.reason}")
    if plan.compress:
        kept = f"{plan.target} of {plan.compressible} compressible tokens"
        effect = f"input goes from {answer.tokens_before} to about {answer.tokens_after} tokens"
        if plan.mode == "audit":
            effect = f"mode audit: only booked, the original of {answer.tokens_before} tokens is sent"
        lines.append(f"kept: {kept} (keep {plan.keep:g}); {effect}")
    else:
        lines.append(f"nothing is shortened: {plan.reason}")
    lines += [f"  - {step}" for step in plan.steps]
    lines += [f"  {_part_line(part, plan)}" for part in answer.parts]
    lines += [f"note: {note}" for note in answer.notes]
    return "\n".join(lines)


def _parts(request: ParsedRequest, policy: Policy, model: ModelConfig) -> tuple[Part, ...]:
    """The texts of a request as the gateway splits them, counted by the model's tokenizer."""
    counter = counter_for(model.tokenizer or model.model or model.name)
    turns = read_conversation(request).messages
    new_from = max((index + 1 for index, turn in enumerate(turns) if turn.begins_turn), default=0)
    segments = split_messages(request, policy, counter.count)
    counts = counter.count_many([segment.text for segment in segments])
    return tuple(
        Part(
            message=segment.message,
            role=segment.role,
            kind=segment.kind,
            tokens=tokens,
            stays=segment.protected,
            keep=rule_for(policy, segment.role, segment.tool).keep,
            earlier=0 <= segment.message < new_from,
        )
        for segment, tokens in zip(segments, counts, strict=True)
    )


def _sizes(question: Question, parts: Sequence[Part]) -> tuple[int, int, int]:
    """Tokens of the whole input, of what may be shortened, and of what could have been when it was sent."""
    if question.request is not None:
        new = sum(part.tokens for part in parts if not part.stays and not part.earlier)
        earlier = sum(part.tokens for part in parts if not part.stays and part.earlier)
        return sum(part.tokens for part in parts), new, earlier
    free = question.tokens if question.compressible is None else question.compressible
    free = min(free, question.tokens)
    return question.tokens, free, min(question.earlier, question.tokens - free)


def _part_line(part: Part, plan: Plan) -> str:
    where = f"message {part.message}" if part.message >= 0 else "instructions"
    what = f"{where}, {part.role}, {part.kind}: {part.tokens} tokens"
    if part.stays:
        return f"{what}, stays ({part.stays})"
    if part.earlier:
        return f"{what}, sent before: keeps its form"
    if not plan.compress:
        return f"{what}, stays"
    return f"{what}, shortened to about {round(part.tokens * (part.keep or plan.keep))}"


def _pressure(config: Config, team: str) -> Sequence[PressureStep]:
    found = config.teams.get(team)
    return found.pressure if found is not None else ()


def _team_notes(config: Config, team: str) -> Sequence[str]:
    if not config.teams or team in config.teams:
        return ()
    return (f"no team {team!r} in the file{suggest(team, config.teams)}: taken as one without pressure",)
