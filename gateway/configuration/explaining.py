"""`terse policy explain`: which route a request would take, why, and how much of it would be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateway.accounting.prices import Prices
from gateway.config import Config, ModelConfig
from gateway.configuration.connections import model_named
from policies.checking import suggest
from policies.errors import PolicyError
from policies.match import Explanation, PolicyBook
from policies.planning import parse_wish, plan_budget
from policies.shapes import Plan, PressureStep, RequestFacts


@dataclass(frozen=True, slots=True)
class Question:
    """One request to explain. `compressible` None: all of its tokens may be shortened."""

    model: str
    team: str
    path: str
    tokens: int
    at: datetime
    compressible: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    spent: float = 0.0
    draw: float | None = None  # None: neither sampled out nor held out, whatever the shares


@dataclass(frozen=True, slots=True)
class Answer:
    """What would happen to it."""

    explanation: Explanation
    plan: Plan
    model: ModelConfig
    tokens_after: int
    notes: tuple[str, ...]


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
    free = question.tokens if question.compressible is None else min(question.compressible, question.tokens)
    if question.compressible is None:
        notes.append("counted as if every token may be shortened; give --compressible for what really may")
    if question.draw is None and (policy.sample < 1 or policy.holdout > 0):
        share = policy.sample * (1 - policy.holdout)
        notes.append(f"explained for the {share:.4g} of the conversations that sample and holdout leave in")
    named = model if model.model else replace(model, model=question.model)
    price = Prices().of(named, config.upstreams[model.upstream])
    plan = plan_budget(
        policy,
        compressible_tokens=free,
        total_tokens=question.tokens,
        wish=parse_wish(facts.headers.get("x-terse-compress")),
        spent_share=question.spent,
        pressure=_pressure(config, question.team),
        context_window=price.context_window,
        # Just inside the touched share, past the held-out part of it.
        draw=policy.sample * policy.holdout if question.draw is None else question.draw,
        at=question.at,
    )
    after = question.tokens - (free - plan.target if plan.compress and plan.mode == "on" else 0)
    return Answer(explanation, plan, model, after, tuple(notes))


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
        "tokens_before": question.tokens,
        "compressible": plan.compressible,
        "target": plan.target,
        "tokens_after": answer.tokens_after,
        "steps": list(plan.steps),
        "notes": list(answer.notes),
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
        effect = {
            "on": f"input goes from {question.tokens} to about {answer.tokens_after} tokens",
            "audit": f"mode audit: computed and booked, the original of {question.tokens} tokens is sent",
        }[plan.mode if plan.mode == "audit" else "on"]
        lines.append(f"kept: {kept} (keep {plan.keep:g}); {effect}")
    else:
        lines.append(f"nothing is shortened: {plan.reason}")
    lines += [f"  - {step}" for step in plan.steps]
    lines += [f"note: {note}" for note in answer.notes]
    return "\n".join(lines)


def _pressure(config: Config, team: str) -> Sequence[PressureStep]:
    found = config.teams.get(team)
    return found.pressure if found is not None else ()


def _team_notes(config: Config, team: str) -> Sequence[str]:
    if not config.teams or team in config.teams:
        return ()
    return (f"no team {team!r} in the file{suggest(team, config.teams)}: taken as one without pressure",)
