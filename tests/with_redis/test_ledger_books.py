"""The contract of Ledger, for both implementations: receipts are booked once, and the books add up."""

from __future__ import annotations

import asyncio

import pytest

from gateway.stores.base import Ledger


def entry(number: int, **other: str | int | float) -> dict[str, str | int | float]:
    base: dict[str, str | int | float] = {
        "request_id": f"r{number}",
        "at": "2026-06-01T10:00:00Z",
        "team": "red",
        "key_id": "k1",
        "model": "gpt-4o-mini",
        "route": "default",
        "compression": "applied",
        "tokens_before": 1000,
        "tokens_after": 600,
        "input_tokens": 610,
        "output_tokens": 40,
        "cost_usd": 0.000123,
        "counterfactual_usd": 0.0002,
        "saved_usd": 0.000077,
        "outcome": "ok",
    }
    return {**base, **other}


async def test_books_add_up(ledger: Ledger) -> None:
    await asyncio.gather(*[ledger.book(entry(n)) for n in range(1000)])
    await ledger.book(entry(5000, team="blue", key_id="k2", cost_usd=1.5, outcome="upstream-error"))
    await ledger.book(entry(5001, at="2026-06-02T00:00:00Z", compression="off", saved_usd=-0.5))
    rows = await ledger.totals(since="2026-06-01", until="2026-06-01")
    assert [(row["day"], row["team"], row["model"], row["requests"]) for row in rows] == [
        ("2026-06-01", "blue", "gpt-4o-mini", 1),
        ("2026-06-01", "red", "gpt-4o-mini", 1000),
    ]
    assert rows[1]["cost_usd"] == 0.123
    assert rows[1]["tokens_saved"] == 400_000
    assert rows[1]["compressed"] == 1000
    assert rows[0]["failed"] == 1
    by_team = await ledger.totals(team="red", by=("team",))
    assert by_team[0]["requests"] == 1001
    assert by_team[0]["saved_usd"] == pytest.approx(0.077 - 0.5)
    assert await ledger.spend_of(["team:red", "key:k2", "team:none"]) == {
        "team:red": 123_123,
        "key:k2": 1_500_000,
        "team:none": 0,
    }
    with pytest.raises(ValueError, match="group by"):
        await ledger.totals(by=("colour",))


async def test_books_tell_by_how_much_answers_became_longer(ledger: Ledger) -> None:
    for number in range(60):
        arm, tokens = ("holdout", 100) if number % 3 == 0 else ("treated", 140)
        await ledger.book(entry(number, arm=arm, output_tokens=tokens, output_usd=tokens * 1e-5))
    (row,) = await ledger.totals(by=("day", "team"))
    assert (row["compared_requests"], row["holdout_requests"]) == (40, 20)
    assert row["output_change_tokens"] == row["output_change_tokens_low"] == 1600
    assert row["output_change_usd"] == pytest.approx(0.016)
    assert row["net_saved_usd"] == pytest.approx(60 * 0.000077 - 0.016)


async def test_a_receipt_is_booked_once(ledger: Ledger) -> None:
    for _ in range(3):
        await ledger.book(entry(1))
    assert (await ledger.totals())[0]["requests"] == 1
    assert len(await ledger.recent()) == 1


async def test_of_many_together_each_is_booked_once(ledger: Ledger) -> None:
    """More than one statement takes; some are there already, some twice in one call, some nameless."""
    await ledger.book_many([entry(n) for n in range(0, 250, 2)])
    named = [entry(n) for n in range(250)]
    nameless = [entry(n, request_id="", team="blue") for n in range(150)]
    await ledger.book_many([*named, *nameless, *named])
    rows = await ledger.totals(by=("team",))
    assert [(row["team"], row["requests"], row["cost_usd"]) for row in rows] == [
        ("blue", 150, 0.01845),
        ("red", 250, 0.03075),
    ]
    assert {row["request_id"] for row in await ledger.recent(team="red", limit=1000)} == {
        f"r{n}" for n in range(250)
    }


async def test_recent_receipts_newest_first(ledger: Ledger) -> None:
    for number in range(5):
        await ledger.book(entry(number, team="red" if number % 2 else "blue"))
    assert [row["request_id"] for row in await ledger.recent(limit=3)] == ["r4", "r3", "r2"]
    assert [row["request_id"] for row in await ledger.recent(team="red")] == ["r3", "r1"]
    assert await ledger.recent(limit=0) == []
    assert (await ledger.recent(limit=1))[0] == entry(4, team="blue")
