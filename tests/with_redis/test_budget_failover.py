"""A budget runs out while the primary dies and Sentinel promotes its replica: two gateways, a provider."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.constant_load import ConstantLoad
from tests.support.live_server import free_port
from tests.support.waiting import until
from tests.with_redis.accounts import account_of, settled
from tests.with_redis.billing import ANSWER_TOKENS, BillingUpstream, billing_upstream, most_of
from tests.with_redis.gateways import Gateway, terse_yaml
from tests.with_redis.load import PROMPT, calibrate
from tests.with_redis.sentinels import Guarded, guarded_redis

COVERED = 60
CLIENTS = 6
TEAM = "failover"
ACCOUNT = f"team:{TEAM}"


@dataclass
class Setting:
    """Two gateways that find their Redis through a sentinel."""

    servers: Guarded
    gateways: list[Gateway]
    upstream: BillingUpstream

    @property
    def budget(self) -> int:
        """Micro-USD."""
        return COVERED * most_of(self.upstream)

    def booked(self) -> int:
        """Micro-USD of the team in the books; -1 while they cannot be read."""
        try:
            rows = self.gateways[0].admin("/usage", by="model", team=TEAM)["rows"]
        except httpx.HTTPStatusError:
            return -1
        return sum(round(row["cost_usd"] * 1e6) for row in rows)


@contextmanager
def setting(folder: Path, store_fail: str) -> Iterator[Setting]:
    """A team whose budget covers so many requests for good."""
    with guarded_redis(folder) as servers, billing_upstream(0.05) as (upstream, url):
        config = folder / "terse.yaml"
        config.write_text(terse_yaml(url, 2).replace("store_fail: closed", f"store_fail: {store_fail}"))
        running = [Gateway(config, free_port(), servers.url, folder) for _ in range(2)]
        try:
            for gateway in running:
                gateway.wait()
            calibrate(running[0], upstream)
            upstream.reset()
            yield Setting(servers, running, upstream)
        finally:
            for gateway in running:
                gateway.stop()


class Load(ConstantLoad):
    """Clients that ask either gateway in turn until the budget is gone."""

    def __init__(self, made: Setting, key: str) -> None:
        super().__init__(CLIENTS, self._ask)
        self.statuses: Counter[int] = Counter()
        self.refusals: Counter[int] = Counter()
        self._made, self._key = made, key

    def spent_out(self) -> bool:
        """Whether every client was told so, several times over."""
        return all(self.refusals[client] >= 10 for client in range(CLIENTS))

    def _ask(self, client: int, over: threading.Event) -> None:
        body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": ANSWER_TOKENS}
        with httpx.Client(headers={"authorization": f"Bearer {self._key}"}, timeout=60) as session:
            while not over.wait(0.01):
                which = client % 2
                reply = session.post(
                    self._made.gateways[which].url + "/v1/chat/completions",
                    json={**body, "model": f"m{which}", "user": "ok"},
                )
                self.statuses[reply.status_code] += 1
                self.refusals[client] += reply.status_code == 429


@pytest.mark.parametrize("store_fail", ["closed", "open"])
def test_a_budget_at_its_limit_during_a_failover(tmp_path: Path, store_fail: str) -> None:
    with setting(tmp_path, store_fail) as made:
        first = made.gateways[0]
        first.admin("/team/new", {"team_id": TEAM, "max_budget": made.budget / 1e6})
        key = str(first.admin("/key/generate", {"team_id": TEAM})["key"])
        until(made.servers.is_in_step)
        with Load(made, key) as load:
            until(lambda: made.upstream.bill.total >= made.budget * 2 // 3, 60)
            made.servers.fail_over()
            until(load.spent_out, 60)
        most, bill = most_of(made.upstream), made.upstream.bill.total
        print(store_fail, load.statuses, "billed", bill / most, "of", COVERED)
        assert set(load.statuses) <= {200, 429, 503}
        assert load.statuses[429] > 0 and load.statuses[200] == bill // most

        # Nothing that was served is lost, nothing is charged or booked twice. What began and ended within the
        # lag of the replica would be: a request a client at most, none of which was ever seen.
        until(lambda: account_of(made.servers.replica, ACCOUNT)[2] >= bill - CLIENTS * most, 30)
        settled(made.servers.replica, ACCOUNT, but_for_leases=True)
        spent = account_of(made.servers.replica, ACCOUNT)[2]
        assert spent <= bill
        until(lambda: made.booked() >= spent, 20)
        assert made.booked() <= bill
        # Closed: not a request over, but for those. Open: each gateway may spend what it last heard was left.
        left = made.budget - made.budget * 2 // 3
        more = 0 if store_fail == "closed" else left * (len(made.gateways) - 1)
        assert bill <= made.budget + more + CLIENTS * most
