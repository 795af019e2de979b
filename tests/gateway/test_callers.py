"""Keys: who is let in, who is not, and how long a change takes to be noticed."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.access import callers as module
from gateway.access.administration import Administration
from gateway.access.bodies import KeyBody, TeamBody
from gateway.access.callers import Callers, key_id_of, key_of, new_key
from gateway.access.models import allows, check_model
from gateway.access.records import KEYS, KeyRecord
from gateway.config import Config, Secret
from gateway.errors import Forbidden, Unauthorized, Unavailable
from gateway.settings import Settings
from gateway.shapes import Caller
from gateway.stores.base import Record, Stores
from gateway.stores.open import open_local
from gateway.stores.sqlite import SqliteRegistry
from policies.shapes import Budget, Limits, Team

MASTER = "sk-master-of-the-tests"
CONFIG = Config(teams={"red": Team("red", models=("gpt-*",)), "shut": Team("shut", blocked=True)})
SETTINGS = Settings(master_key=Secret(MASTER))


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    stores = open_local(tmp_path / "terse.db")
    yield stores
    await stores.close()


@pytest.fixture
def callers(stores: Stores) -> Callers:
    return Callers(CONFIG, SETTINGS, stores.registry)


@pytest.fixture
def admin(stores: Stores, callers: Callers) -> Administration:
    return Administration(CONFIG, stores, callers.forget)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def make(admin: Administration, **fields: object) -> str:
    return str((await admin.generate(KeyBody.model_validate(fields)))["key"])


async def refused(callers: Callers, key: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await callers.authenticate(bearer(key))
    assert caught.value.status == 401
    return str(caught.value.code)


async def test_a_key_becomes_a_caller(admin: Administration, callers: Callers) -> None:
    key = await make(
        admin, team_id="red", key_alias="ci", models=["gpt-4*"], max_budget=5, budget_duration="1d",
        rpm_limit=7, metadata={"owner": "me", "n": 1}, may_override=False,
    )  # fmt: skip
    assert key.startswith("sk-terse-")
    caller = await callers.authenticate(bearer(key))
    assert caller == Caller(
        team=CONFIG.teams["red"],
        key_id=hashlib.sha256(key.encode()).hexdigest(),
        key_alias="ci",
        may_override=False,
        models=("gpt-4*",),
        metadata={"owner": "me"},
        budgets=(Budget(usd=5.0, per="day"),),
        limits=Limits(requests_per_minute=7),
    )


async def test_only_the_hash_is_stored(admin: Administration, stores: Stores) -> None:
    key = await make(admin, team_id="red")
    await stores.close()
    for file in Path(stores.registry._database.path).parent.iterdir():  # type: ignore[attr-defined]
        assert key.encode() not in file.read_bytes()
        assert key.removeprefix("sk-terse-").encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer k"}, "k"),
        ({"authorization": "bearer  k "}, "k"),
        ({"authorization": "Basic k"}, ""),
        ({"x-api-key": "k"}, "k"),
        ({"x-litellm-api-key": "k", "authorization": "Bearer other"}, "k"),
        ({"x-litellm-api-key": "Bearer k"}, "k"),
        ({"authorization": "Basic u", "x-api-key": "k"}, "k"),
        ({}, ""),
    ],
)
def test_where_keys_are_looked_for(headers: dict[str, str], key: str) -> None:
    assert key_of(headers) == key


async def test_no_key_and_unknown_keys(callers: Callers) -> None:
    with pytest.raises(Unauthorized) as caught:
        await callers.authenticate({})
    assert caught.value.code == "missing_api_key"
    for key in ("sk-terse-nobody", "x" * 100_000, "ключ", "\udc80", MASTER + "x", MASTER[:-1]):
        assert await refused(callers, key) == "invalid_api_key"


async def test_the_master_key_may_call(callers: Callers) -> None:
    assert (await callers.authenticate(bearer(MASTER))).key_id == "master"


async def test_anybody_without_keys_configured(stores: Stores) -> None:
    callers = Callers(Config(), Settings(), stores.registry)
    for headers in ({}, bearer("anything")):
        assert await callers.authenticate(headers) == Caller(Team("default"), "anonymous")


@pytest.mark.parametrize("settings", [Settings(), SETTINGS])
async def test_with_teams_or_a_master_key_keys_are_asked_for(stores: Stores, settings: Settings) -> None:
    config = CONFIG if settings is not SETTINGS else Config()
    assert await refused(Callers(config, settings, stores.registry), "sk-x") == "invalid_api_key"


async def test_expired_keys(admin: Administration, callers: Callers, stores: Stores) -> None:
    key = await make(admin, duration="1h")
    await callers.authenticate(bearer(key))
    record = await stores.registry.get(KEYS, key_id_of(key))
    assert record is not None
    past = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)).isoformat()
    known = KeyRecord.decode(record.data)
    data = KeyRecord(known.key_id, expires=past).encode()
    await stores.registry.put(KEYS, record.name, data, record.version)
    callers.forget()
    assert await refused(callers, key) == "expired_key"


async def test_a_key_expires_while_it_is_known(
    admin: Administration, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await make(admin, duration="30s")
    await callers.authenticate(bearer(key))
    real = module.time.time
    monkeypatch.setattr(module.time, "time", lambda: real() + 31)
    assert await refused(callers, key) == "expired_key"


async def test_blocked_keys_and_teams(admin: Administration, callers: Callers) -> None:
    key = await make(admin, team_id="red")
    await callers.authenticate(bearer(key))
    await admin.update_key(key, KeyBody(blocked=True))
    assert await refused(callers, key) == "key_blocked"
    await admin.update_key(key, KeyBody(blocked=False))
    await callers.authenticate(bearer(key))
    with pytest.raises(Forbidden, match="shut") as caught:
        await callers.authenticate(bearer(await make(admin, team_id="shut")))
    assert caught.value.code == "team_blocked"


async def test_a_team_that_is_gone(admin: Administration, callers: Callers) -> None:
    await admin.new_team(TeamBody(team_id="blue"))
    key = await make(admin, team_id="blue")
    assert (await callers.authenticate(bearer(key))).team.name == "blue"
    await admin.delete_team("blue")
    assert await refused(callers, key) == "unknown_team"


async def test_deleted_and_regenerated_keys(admin: Administration, callers: Callers) -> None:
    key = await make(admin, max_budget=1)
    await callers.authenticate(bearer(key))
    fresh = str((await admin.regenerate(key, KeyBody()))["key"])
    assert await refused(callers, key) == "invalid_api_key"
    caller = await callers.authenticate(bearer(fresh))
    assert caller.account == key_id_of(key)  # the budget goes on
    assert caller.budgets == (Budget(usd=1.0, per="total"),)
    again = str((await admin.regenerate(fresh, KeyBody()))["key"])
    assert (await callers.authenticate(bearer(again))).account == key_id_of(key)
    await admin.delete_key(again)
    assert await refused(callers, again) == "invalid_api_key"


class CountingRegistry(SqliteRegistry):
    """Counts look-ups, and is gone when told."""

    lookups = 0
    gone = False

    async def get_linked(
        self, collection: str, name: str, field: str, other: str
    ) -> tuple[Record | None, Record | None]:
        self.lookups += 1
        await asyncio.sleep(0)
        if self.gone:
            raise Unavailable("gone")
        return await super().get_linked(collection, name, field, other)


@pytest.fixture
def counting(stores: Stores) -> CountingRegistry:
    return CountingRegistry(stores.registry._database)  # type: ignore[attr-defined]


async def test_a_known_key_costs_nothing(
    admin: Administration, counting: CountingRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = Callers(CONFIG, SETTINGS, counting)
    key = await make(admin)
    await asyncio.gather(*[callers.authenticate(bearer(key)) for _ in range(50)])
    assert counting.lookups == 1
    real = module.time.monotonic
    monkeypatch.setattr(module.time, "monotonic", lambda: real() + module.FRESH_SECONDS)
    await callers.authenticate(bearer(key))
    assert counting.lookups == 2


async def test_a_key_made_elsewhere_works_a_second_later(
    admin: Administration, counting: CountingRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers, key = Callers(CONFIG, SETTINGS, counting), new_key()
    await refused(callers, key)
    await make(admin, key=key)
    real = module.time.monotonic
    monkeypatch.setattr(module.time, "monotonic", lambda: real() + module.UNKNOWN_SECONDS)
    await callers.authenticate(bearer(key))


async def test_a_waiting_client_that_leaves_does_not_stop_the_others(
    admin: Administration, counting: CountingRegistry
) -> None:
    callers, key = Callers(CONFIG, SETTINGS, counting), await make(admin)
    first, second = (asyncio.create_task(callers.authenticate(bearer(key))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).key_id == key_id_of(key)


async def test_without_the_registry_known_keys_go_on(
    admin: Administration, counting: CountingRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers, key = Callers(CONFIG, SETTINGS, counting), await make(admin)
    await callers.authenticate(bearer(key))
    counting.gone = True
    real = module.time.monotonic
    monkeypatch.setattr(module.time, "monotonic", lambda: real() + module.FRESH_SECONDS)
    assert (await callers.authenticate(bearer(key))).key_id == key_id_of(key)
    with pytest.raises(Unavailable) as caught:
        await callers.authenticate(bearer("sk-terse-never-seen"))
    assert caught.value.headers["retry-after"] == "1"
    monkeypatch.setattr(module.time, "monotonic", lambda: real() + module.STALE_SECONDS + 1)
    with pytest.raises(Unavailable):
        await callers.authenticate(bearer(key))


async def test_broken_lookups_are_not_remembered(admin: Administration, counting: CountingRegistry) -> None:
    callers, key = Callers(CONFIG, SETTINGS, counting), await make(admin)
    counting.gone = True
    with pytest.raises(Unavailable):
        await callers.authenticate(bearer(key))
    counting.gone = False
    await callers.authenticate(bearer(key))


def test_models_of_key_and_team() -> None:
    caller = Caller(Team("red", models=("gpt-*",)), "k", models=("*-mini", "o3"))
    check_model(caller, "gpt-4o-mini")
    with pytest.raises(Forbidden, match="key") as of_key:
        check_model(caller, "gpt-4o")
    with pytest.raises(Forbidden, match="red") as of_team:
        check_model(caller, "o3")
    assert (of_key.value.status, of_key.value.code) == (403, "key_model_access_denied")
    assert of_team.value.code == "team_model_access_denied"
    assert allows((), "anything")
    assert not allows(("GPT-*",), "gpt-4o")
