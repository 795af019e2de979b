"""Rules and arithmetic: which policy a request takes and how much of it is kept. No torch, HTTP or Redis."""

from policies.errors import ConfigurationError, PolicyError
from policies.match import Explanation, PolicyBook
from policies.planning import draw_of, parse_wish, plan_budget, plan_turn, rule_for
from policies.shapes import ClientWish, Match, Plan, Policy, RequestFacts, Route, Team

__all__ = [
    "ClientWish",
    "ConfigurationError",
    "Explanation",
    "Match",
    "Plan",
    "Policy",
    "PolicyBook",
    "PolicyError",
    "RequestFacts",
    "Route",
    "Team",
    "draw_of",
    "parse_wish",
    "plan_budget",
    "plan_turn",
    "rule_for",
]
