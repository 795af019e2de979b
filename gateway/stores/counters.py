"""The ledger's decisions inside one process: counters in memory, no I/O. SQLite keeps what it charges."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.stores.base import Account, Hold, Room, Spent
from gateway.stores.verdicts import (
    NEVER_FITS,
    AccountState,
    Rate,
    Reason,
    Refusal,
    error_of,
    rate_headers,
    rooms_of,
    shares_of,
)
from gateway.stores.windows import LENGTH, SlidingWindow, calendar_window
from policies.shapes import Budget

# Holds whose lease ran out under a running request are remembered, so that late settlements are charged.
RECLAIMED_KEPT: Final = 10_000


def micro_limit(budget: Budget) -> int | None:
    """A budget's USD in micro-USD."""
    return None if budget.usd is None else round(budget.usd * 1_000_000)


@dataclass(frozen=True, slots=True)
class Charge:
    """One sum to write down. `slot` is the number of the calendar window or of the sliding slice."""

    account: str
    window: str  # a period, or "~" and a period for a sliding window
    slot: int
    micro_usd: int
    tokens: int


@dataclass(slots=True)
class _Counters:
    """Everything counted for one account."""

    concurrent: int = 0
    held_micro: int = 0
    held_tokens: int = 0
    calendar: dict[str, list[int]] = field(default_factory=dict)  # period -> [window, micro-USD, tokens]
    sliding: dict[str, SlidingWindow] = field(default_factory=dict)  # period -> micro-USD, tokens
    rate: SlidingWindow = field(default_factory=lambda: SlidingWindow(60))  # requests, tokens


@dataclass(slots=True)
class _Held:
    """One hold, the slice its rates were counted in, and the second its lease ends."""

    hold: Hold
    rate_slice: int
    expires: int


class Counters:
    """Reserve, settle and release for many accounts at once, all or none.

    `now` is Unix seconds, given by the caller. Not safe across threads: one event loop owns it.
    """

    def __init__(self) -> None:
        self._accounts: dict[str, _Counters] = {}
        self._holds: dict[str, _Held] = {}
        self._reclaimed: OrderedDict[str, None] = OrderedDict()
        self._swept = 0

    def load(self, charges: Sequence[Charge]) -> None:
        """Takes over what an earlier run charged."""
        for charge in charges:
            counters = self._of(charge.account)
            if charge.window.startswith("~"):
                period = charge.window[1:]
                window = counters.sliding.setdefault(period, SlidingWindow(LENGTH[period]))
                window.slices[charge.slot] = [charge.micro_usd, charge.tokens]
            else:
                known = counters.calendar.get(charge.window)
                if known is None or known[0] < charge.slot:
                    counters.calendar[charge.window] = [charge.slot, charge.micro_usd, charge.tokens]

    def reserve(self, hold: Hold, now: int) -> Hold:
        """All accounts or none. Raises RateLimited or BudgetExceeded. The same id twice changes nothing."""
        self.reclaim(now)
        if hold.id not in self._holds:
            refusals = [
                refusal for account in hold.accounts for refusal in self._refusals(account, hold, now)
            ]
            if refusals:
                raise error_of(refusals, self._states(hold.accounts, now))
            self._take(hold, now)
        states = self._states(hold.accounts, now)
        return replace(
            hold, rate_headers=rate_headers(states), shares=shares_of(states), rooms=rooms_of(states)
        )

    def settle(self, hold: Hold, micro_usd: int, tokens: int, now: int) -> list[Charge]:
        """Replaces the hold by what it cost. Returns what to write down: nothing the second time."""
        if not self._give_back(hold.id, tokens, now) and self._reclaimed.pop(hold.id, "unknown") == "unknown":
            return []
        return [
            charge for account in hold.accounts for charge in self._charge(account, micro_usd, tokens, now)
        ]

    def release(self, hold: Hold, now: int) -> None:
        """Gives the hold back; the request still counts as one of its minute."""
        if not self._give_back(hold.id, 0, now):
            self._reclaimed.pop(hold.id, None)

    def charge(self, accounts: Sequence[Account], micro_usd: int, tokens: int, now: int) -> list[Charge]:
        """Charges without a hold."""
        return [charge for account in accounts for charge in self._charge(account, micro_usd, tokens, now)]

    def spent(self, accounts: Sequence[Account], now: int) -> Spent:
        """The share of the fullest budget of these accounts."""
        self.reclaim(now)
        full = {account.id: self._fullness(account, now) for account in accounts}
        shares = {account: share for account, (share, _) in full.items()}
        fullest = max(shares, key=lambda name: shares[name], default="")
        rooms = {account: room for account, (_, room) in full.items()}
        return Spent(shares.get(fullest, 0.0), fullest, shares, rooms)

    def renew(self, holds: Sequence[Hold], now: int) -> None:
        """Starts leases anew."""
        for hold in holds:
            held = self._holds.get(hold.id)
            if held is not None:
                held.expires = now + hold.lease_seconds

    def reclaim(self, now: int) -> int:
        """Releases holds whose lease is over; looks at most once a second. Returns how many."""
        if now == self._swept:
            return 0
        self._swept = now
        late = [hold_id for hold_id, held in self._holds.items() if held.expires <= now]
        for hold_id in late:
            self._give_back(hold_id, 0, now)
            self._reclaimed[hold_id] = None
            if len(self._reclaimed) > RECLAIMED_KEPT:
                self._reclaimed.popitem(last=False)
        return len(late)

    # ---- one account

    def _of(self, account_id: str) -> _Counters:
        counters = self._accounts.get(account_id)
        if counters is None:
            counters = self._accounts[account_id] = _Counters()
        return counters

    def _spent(self, account: Account, budget: Budget, now: int) -> tuple[int, int]:
        counters = self._of(account.id)
        if budget.sliding and budget.per != "total":
            window = counters.sliding.get(budget.per)
            return window.sums(now) if window else (0, 0)
        known = counters.calendar.get(budget.per)
        # A window later than the clock's (it went back) stays in force: money is never handed out twice.
        if known is None or known[0] < calendar_window(budget.per, now)[0]:
            return 0, 0
        return known[1], known[2]

    def _refusals(self, account: Account, hold: Hold, now: int) -> list[Refusal]:
        found = self._rate_refusals(account, hold, now)
        counters = self._of(account.id)
        for budget in account.budgets:
            spent = self._spent(account, budget, now)
            sides: tuple[tuple[Reason, int | None, int, int], ...] = (
                ("usd-budget", micro_limit(budget), counters.held_micro, hold.micro_usd),
                ("token-budget", budget.tokens, counters.held_tokens, hold.tokens),
            )
            for which, (reason, limit, held, need) in enumerate(sides):
                if limit is None or spent[which] + held + need <= limit:
                    continue
                wait = self._budget_wait(account, budget, which, (spent[which], need, limit), now)
                found.append(Refusal(reason, account.id, limit, spent[which] + held, need, wait, budget.per))
        return found

    def _budget_wait(
        self, account: Account, budget: Budget, which: int, sums: tuple[int, int, int], now: int
    ) -> int:
        spent, need, limit = sums
        if need > limit:
            return NEVER_FITS
        if spent + need <= limit:
            return 1  # only running requests stand in the way; any of them may end now
        if budget.sliding and budget.per != "total":
            window = self._of(account.id).sliding[budget.per]
            return window.wait_until_free(which, spent + need - limit, now)
        return max(1, calendar_window(budget.per, now)[1] - now)

    def _rate_refusals(self, account: Account, hold: Hold, now: int) -> list[Refusal]:
        counters, limits = self._of(account.id), account.limits
        requests, tokens = counters.rate.sums(now)
        found = []
        limit = limits.concurrent_requests
        if limit is not None and counters.concurrent + 1 > limit:
            wait = 1 if limit > 0 else NEVER_FITS
            found.append(Refusal("concurrent", account.id, limit, counters.concurrent, 1, wait))
        limit = limits.requests_per_minute
        if limit is not None and requests + 1 > limit:
            wait = counters.rate.wait_until_free(0, requests + 1 - limit, now) if limit > 0 else NEVER_FITS
            found.append(Refusal("requests", account.id, limit, requests, 1, wait))
        limit = limits.tokens_per_minute
        if limit is not None and tokens + min(hold.tokens, limit) > limit:
            # A request whose longest answer alone would pass the limit runs when the minute is empty.
            wait = counters.rate.wait_until_free(1, tokens + min(hold.tokens, limit) - limit, now)
            found.append(Refusal("tokens", account.id, limit, tokens, hold.tokens, wait))
        if limit is not None and hold.input_tokens > limit:
            found.append(Refusal("tokens", account.id, limit, tokens, hold.input_tokens, NEVER_FITS))
        return found

    def _take(self, hold: Hold, now: int) -> None:
        rate_slice = now
        for account in hold.accounts:
            counters = self._of(account.id)
            counters.concurrent += 1
            counters.held_micro += hold.micro_usd
            counters.held_tokens += hold.tokens
            counters.rate.add(rate_slice, 1, hold.tokens, now)
        self._holds[hold.id] = _Held(hold, rate_slice, now + hold.lease_seconds)

    def _give_back(self, hold_id: str, tokens: int, now: int) -> bool:
        held = self._holds.pop(hold_id, None)
        if held is None:
            return False
        for account in held.hold.accounts:
            counters = self._of(account.id)
            counters.concurrent -= 1
            counters.held_micro -= held.hold.micro_usd
            counters.held_tokens -= held.hold.tokens
            counters.rate.add(held.rate_slice, 0, tokens - held.hold.tokens, now)
        return True

    def _charge(self, account: Account, micro_usd: int, tokens: int, now: int) -> list[Charge]:
        counters, charges = self._of(account.id), []
        for period, slides in {(b.per, b.sliding and b.per != "total") for b in account.budgets}:
            if slides:
                window = counters.sliding.setdefault(period, SlidingWindow(LENGTH[period]))
                slot = window.slice_of(now)
                window.add(slot, micro_usd, tokens, now)
                charges.append(Charge(account.id, "~" + period, slot, micro_usd, tokens))
                continue
            number = calendar_window(period, now)[0]
            known = counters.calendar.get(period)
            if known is None or known[0] < number:
                known = counters.calendar[period] = [number, 0, 0]
            known[1] += micro_usd
            known[2] += tokens
            charges.append(Charge(account.id, period, known[0], micro_usd, tokens))
        return charges

    def _fullness(self, account: Account, now: int) -> tuple[float, Room]:
        counters, share, room = self._of(account.id), 0.0, Room()
        for budget in account.budgets:
            micro, tokens = self._spent(account, budget, now)
            micro, tokens = micro + counters.held_micro, tokens + counters.held_tokens
            usd = micro_limit(budget)
            for limit, used in ((usd, micro), (budget.tokens, tokens)):
                if limit is not None:
                    share = max(share, used / limit if limit > 0 else 1.0)
            room = room.tightened(
                Room(
                    None if usd is None else usd - micro,
                    None if budget.tokens is None else budget.tokens - tokens,
                )
            )
        return share, room

    def _states(self, accounts: Sequence[Account], now: int) -> list[AccountState]:
        return [self._state(account, now) for account in accounts]

    def _state(self, account: Account, now: int) -> AccountState:
        window, limits = self._of(account.id).rate, account.limits
        requests, tokens = window.sums(now)

        def rate(which: int, limit: int | None, used: int) -> Rate | None:
            if limit is None:
                return None
            return Rate(limit, max(0, limit - used), window.empty_in(which, now))

        return AccountState(
            account.id,
            rate(0, limits.requests_per_minute, requests),
            rate(1, limits.tokens_per_minute, tokens),
            *self._fullness(account, now),
        )
