"""Whether a request may run, and what is held for it until its real cost is known."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from gateway.access.callers import ANONYMOUS, MASTER
from gateway.access.estimates import estimate
from gateway.access.fairness import FairShares
from gateway.config import Config, ModelConfig
from gateway.errors import BudgetExceeded, RateLimited, Unavailable
from gateway.shapes import Caller, Compressed, ParsedRequest, Price, Usage
from gateway.stores.base import Account, Hold, Ledger, Room, Spent
from gateway.stores.counters import Counters
from policies.shapes import Limits, Match

LOG = logging.getLogger(__name__)

# A crashed gateway's holds come back after this long; running requests renew theirs three times as often.
LEASE_SECONDS: Final = 60
# How full a budget is comes with every reservation's answer; older than this it is asked for again.
FRESH_SECONDS: Final = 1.0
KNOWN_SHARES: Final = 10_000
# Budgets that are read along with a key that has to be looked up, so that it costs no round trip of its own.
READ_ALONG: Final = 64
UNLIMITED: Final = Limits()


@dataclass(frozen=True, slots=True)
class _Running:
    """One admitted request: what to renew, and whose it is."""

    hold: Hold
    model: str
    caller: Caller


@dataclass(frozen=True, slots=True)
class _Share:
    """How full one account's fullest budget was, and when that was said (monotonic)."""

    account: Account
    share: float
    room: Room
    read: float


class Admission:
    """Pressure, reservation and settlement. At most one round trip each, none where nothing is limited."""

    def __init__(self, config: Config, ledger: Ledger, *, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._ledger = ledger
        self._clock = clock
        self._routes = {route.name: route for route in config.routes}
        self._models: dict[str, ModelConfig | None] = {}
        self._running: dict[str, _Running] = {}
        self._shares: OrderedDict[str, _Share] = OrderedDict()
        self._local = Counters()  # of this process, while the store is gone
        self._fair = FairShares()
        self._renewing: asyncio.Task[None] | None = None
        self._given_up: set[asyncio.Future[None]] = set()
        self.decided_alone = 0  # requests admitted without the store

    async def pressure(self, caller: Caller, match: Match, model: ModelConfig | str) -> Spent:
        """How full the fullest budget is; 0 without asking where no `pressure` step could use it."""
        if not caller.team.pressure:
            return Spent(0.0)
        name = model if isinstance(model, str) else model.name
        accounts = [account for account in self._accounts(caller, match, name) if account.budgets]
        # A key's own budget is heard of with its first reservation; it alone is not worth a round trip.
        stale = [a for a in accounts if not self._is_fresh(a) and not _is_new_key(a, self._shares)]
        if stale:
            try:
                told = await self._ledger.spent(accounts)
                self._remember(accounts, told.shares, told.rooms)
            except Unavailable:
                LOG.debug("pressure is decided on what was known before")
        known = [self._shares[account.id] for account in accounts if account.id in self._shares]
        fullest = max(known, key=lambda share: share.share, default=None)
        if fullest is None:
            return Spent(0.0)
        shares = {share.account.id: share.share for share in known}
        return Spent(
            fullest.share, fullest.account.id, shares, {share.account.id: share.room for share in known}
        )

    async def read_along(self) -> None:
        """Asks how full the budgets of recent callers are; sent in one round trip with a key's lookup."""
        recent = [share.account for share in list(self._shares.values())[-READ_ALONG:]]
        unknown = [account for account in self._budgets_of_file() if account.id not in self._shares]
        accounts = [account for account in recent + unknown if not self._is_fresh(account)][:READ_ALONG]
        if not accounts:
            return
        try:
            told = await self._ledger.spent(accounts)
            self._remember(accounts, told.shares, told.rooms)
        except Unavailable:
            LOG.debug("no budgets were read along")

    async def admit(
        self, caller: Caller, match: Match, request: ParsedRequest, compressed: Compressed, price: Price
    ) -> Hold:
        """Holds what the request may cost at most. Raises RateLimited, BudgetExceeded, or Unavailable.

        Every hold ends with one `settle` or one `release`. Unavailable only where the policy's `store_fail`
        is closed; open, this process decides on its own counters and the store is charged when it is back.
        """
        most = estimate(request, compressed, price)
        accounts = [
            account
            for account in self._accounts(caller, match, request.model)
            if account.budgets or account.limits != UNLIMITED
        ]
        hold = Hold(
            id=f"{random.getrandbits(96):024x}",  # unique is enough
            accounts=tuple(accounts),
            micro_usd=most.micro_usd,
            tokens=most.tokens,
            lease_seconds=LEASE_SECONDS,
            input_tokens=most.input_tokens,
        )
        self._fair.enter(request.model, caller.team)
        try:
            if accounts:
                hold = await self._reserve(hold, match)
        except BaseException:
            self._fair.leave(request.model, caller.team, throttled=False)
            raise
        self._running[hold.id] = _Running(hold, request.model, caller)
        if accounts and self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
        return hold

    async def settle(self, hold: Hold, usage: Usage, cost_usd: float) -> None:
        """Charges what the upstream billed, in place of the hold. Safe to repeat; never raises."""
        self._leave(hold, throttled=False)
        if not hold.accounts:
            return
        tokens = max(0, usage.input_tokens) + max(0, usage.output_tokens)
        micro_usd = max(0, round(cost_usd * 1_000_000)) if math.isfinite(cost_usd) else hold.micro_usd
        if micro_usd > hold.micro_usd or tokens > hold.tokens:
            for account in hold.accounts:  # fuller than its reservation said: to be asked for again
                self._shares.pop(account.id, None)
        if hold.local:
            self._local.settle(hold, micro_usd, tokens, int(self._clock()))
        await self._ledger.settle(hold, micro_usd, tokens)

    async def release(self, hold: Hold, *, throttled: bool = False) -> None:
        """Nothing was billed; `throttled` when the upstream answered 429. Safe to repeat; never raises."""
        self._leave(hold, throttled=throttled)
        if not hold.accounts:
            return
        if hold.local:
            self._local.release(hold, int(self._clock()))
        await self._ledger.release(hold)

    async def close(self) -> None:
        """Stops renewing leases. What still runs keeps its hold until the lease ends."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            self._renewing = None

    # ---- the parts

    async def _reserve(self, hold: Hold, match: Match) -> Hold:
        asking = asyncio.ensure_future(self._ledger.reserve(hold))
        try:
            hold = await asyncio.shield(asking)
        except Unavailable as error:
            if match.policy.store_fail == "closed":
                await self._ledger.release(hold)  # it may have been held although no answer came
                raise Unavailable(
                    f"Budgets cannot be checked now, and policy {match.policy.name!r} does not go on "
                    f"without: {error.message}",
                    code="store_unavailable",
                    headers={"retry-after": "1"},
                ) from None
            return await self._reserve_alone(hold)
        except asyncio.CancelledError:
            asking.add_done_callback(lambda asked: self._give_up(hold, asked))
            raise
        self._remember(hold.accounts, hold.shares, hold.rooms)
        return hold

    async def _reserve_alone(self, hold: Hold) -> Hold:
        """Decides in this process. For a minute it goes on from what it last heard of each budget."""
        now = time.monotonic()
        shares = [self._shares[account.id] for account in hold.accounts if account.id in self._shares]
        known = [share for share in shares if now - share.read < LEASE_SECONDS]
        try:
            for share in known:
                if not share.room.covers(hold.micro_usd, hold.tokens):
                    raise BudgetExceeded(
                        f"The budget of {share.account.id.replace(':', ' ', 1)} did not cover this request "
                        "when it could last be read.",
                        headers={"retry-after": "1"},
                    )
            held = self._local.reserve(replace(hold, local=True), int(self._clock()))
        except (RateLimited, BudgetExceeded):
            await self._ledger.release(hold)  # it may have been held although no answer came
            raise
        for share in known:
            room = share.room.less(hold.micro_usd, hold.tokens)
            self._shares[share.account.id] = replace(share, room=room)
        self.decided_alone += 1
        return held

    def _give_up(self, hold: Hold, asked: asyncio.Future[Hold]) -> None:
        """The client left while its hold was being made; whatever became of it is given back."""
        if not asked.cancelled() and isinstance(asked.exception(), (RateLimited, BudgetExceeded)):
            return
        releasing = asyncio.ensure_future(self._ledger.release(hold))
        self._given_up.add(releasing)
        releasing.add_done_callback(self._given_up.discard)

    def _accounts(self, caller: Caller, match: Match, model: str) -> list[Account]:
        """Everybody whose counters this request touches."""
        team = caller.team
        accounts = [Account(f"team:{team.name}", team.budgets, team.limits)]
        if caller.key_id not in (ANONYMOUS, MASTER):
            name = f"key:{caller.account or caller.key_id}"
            accounts.append(Account(name, caller.budgets, caller.limits))
        configured = self._model(model)
        if configured is not None:
            accounts.append(Account(f"model:{configured.name}", configured.budgets, configured.limits))
        route = self._routes.get(match.route)
        if route is not None and route.budgets:
            accounts.append(Account(f"route:{route.name}", route.budgets))
        return accounts

    def _budgets_of_file(self) -> list[Account]:
        """What terse.yaml budgets, where a team's pressure may ask for it."""
        config = self._config
        teams = [Account(f"team:{t.name}", t.budgets, t.limits) for t in config.teams.values() if t.pressure]
        models = [Account(f"model:{m.name}", m.budgets, m.limits) for m in config.models.values()]
        routes = [Account(f"route:{r.name}", r.budgets) for r in config.routes]
        return [account for account in (*teams, *models, *routes) if account.budgets]

    def _is_fresh(self, account: Account) -> bool:
        known = self._shares.get(account.id)
        return known is not None and time.monotonic() - known.read < FRESH_SECONDS

    def _model(self, name: str) -> ModelConfig | None:
        """The configured model with limits of its own that this name falls under."""
        if name not in self._models:
            if len(self._models) > KNOWN_SHARES:
                self._models.clear()  # names come from clients
            limited = [m for m in self._config.models.values() if m.budgets or m.limits != UNLIMITED]
            exact = [model for model in limited if model.name == name]
            globs = [model for model in limited if fnmatchcase(name, model.name)]
            self._models[name] = next(iter(exact + globs), None)
        return self._models[name]

    def _remember(
        self, accounts: Sequence[Account], shares: Mapping[str, float], rooms: Mapping[str, Room]
    ) -> None:
        now = time.monotonic()
        for account in accounts:
            if account.budgets and account.id in shares:
                room = rooms.get(account.id, Room())
                self._shares[account.id] = _Share(account, shares[account.id], room, now)
                self._shares.move_to_end(account.id)
        while len(self._shares) > KNOWN_SHARES:
            self._shares.popitem(last=False)

    def _leave(self, hold: Hold, *, throttled: bool) -> None:
        running = self._running.pop(hold.id, None)
        if running is not None:
            self._fair.leave(running.model, running.caller.team, throttled=throttled)

    async def _renew(self) -> None:
        """Keeps the leases of what runs, and ends when nothing does."""
        while self._running:
            await asyncio.sleep(LEASE_SECONDS / 3)
            holds = [running.hold for running in self._running.values() if running.hold.accounts]
            self._local.renew([hold for hold in holds if hold.local], int(self._clock()))
            if holds:
                await self._ledger.renew([hold for hold in holds if not hold.local])
        self._renewing = None


def _is_new_key(account: Account, known: Mapping[str, _Share]) -> bool:
    return account.id.startswith("key:") and account.id not in known
