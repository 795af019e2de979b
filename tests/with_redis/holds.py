"""Accounts and holds for tests of the ledger, and what a hold that does not fit is told."""

from __future__ import annotations

import pytest

from gateway.errors import BudgetExceeded, GatewayError, RateLimited
from gateway.stores.base import Account, Hold, Ledger
from policies.shapes import Budget, Limits

DOLLAR = 1_000_000


def hold(name: str, *accounts: Account, usd: float = 0.0, tokens: int = 0, lease: int = 60) -> Hold:
    return Hold(name, accounts, round(usd * DOLLAR), tokens, lease_seconds=lease)


def team(*budgets: Budget, limits: Limits = Limits(), name: str = "team:red") -> Account:  # noqa: B008
    return Account(name, budgets, limits)


async def refusal(ledger: Ledger, wanted: Hold) -> GatewayError:
    with pytest.raises((RateLimited, BudgetExceeded)) as caught:
        await ledger.reserve(wanted)
    assert caught.value.status == 429
    return caught.value
