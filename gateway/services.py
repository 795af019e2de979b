"""Everything that one worker keeps open, in one place; and what a reload replaces."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from compressor.config import CompressorConfig
from compressor.engine.protocol import ScoringEngine
from compressor.errors import CompressorError
from compressor.startup import open_engine
from compressor.text.tokens import counter_for
from gateway.access.admission import Admission
from gateway.access.callers import Callers
from gateway.accounting.bookkeeping import Bookkeeper
from gateway.accounting.prices import Prices, dearest
from gateway.compression.remote_engine import RemoteEngine
from gateway.compression.shortening import FrontRoom, Shortener
from gateway.config import CompressorSettings, Config, ModelConfig
from gateway.quality.alerting import webhook_alert
from gateway.quality.guard import QualityGuard
from gateway.quality.measures import QualityMetrics
from gateway.recovery.rounds import Recovery
from gateway.recovery.vault import Vault, read_key
from gateway.reloading import Reloader, reloading
from gateway.settings import Settings
from gateway.shapes import Price
from gateway.stores.base import Stores
from gateway.stores.open import open_stores
from gateway.telemetry import Metrics
from gateway.tracing import Tracing, open_tracing
from gateway.upstream.directory import Directory
from gateway.upstream.passthrough import open_session
from policies.match import PolicyBook

_MOST_PRICED = 10_000


@dataclass(frozen=True, slots=True)
class Live:
    """What one configuration made; a reload swaps the whole."""

    config: Config
    directory: Directory
    policies: PolicyBook
    callers: Callers
    admission: Admission
    prices: Prices
    _priced: dict[tuple[str, str], Price] = field(default_factory=dict, repr=False)

    def price_of(self, model: ModelConfig) -> Price:
        """USD per token of this model."""
        name = (model.name, model.model)
        price = self._priced.get(name)
        if price is None:
            if len(self._priced) >= _MOST_PRICED:
                self._priced.clear()  # names come from clients
            price = self._priced[name] = self.prices.of(model, self.directory.upstream_of(model))
        return price

    def dearest_of(self, model: ModelConfig) -> Price:
        """The most that the model or one of its fallbacks asks: what a reservation has to cover."""
        if not model.fallbacks:
            return self.price_of(model)
        return dearest([self.price_of(each) for each in (model, *map(self.directory.find, model.fallbacks))])


@dataclass(slots=True)
class Services:
    """What handlers reach. `live` is read once a request, so that one request sees one configuration."""

    settings: Settings
    stores: Stores
    engine: ScoringEngine
    shortener: Shortener
    session: aiohttp.ClientSession
    metrics: Metrics
    quality: QualityGuard
    recovery: Recovery
    books: Bookkeeper
    live: Live
    metrics_directory: str = ""
    reloader: Reloader | None = None
    tracing: Tracing | None = None


@asynccontextmanager
async def open_services(
    config: Config,
    settings: Settings,
    *,
    engine: ScoringEngine | None = None,
    metrics_directory: str = "",
) -> AsyncIterator[Services]:
    """Opens everything, closes it in reverse. With `engine` the caller keeps it, and closes it itself.

    Raises ModelLoadFailed, and what `open_stores` raises.
    """
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        await asyncio.to_thread(load_tokenizers, config)
        if engine is None:
            engine = await _open_engine(config.compressor)
            stack.push_async_callback(engine.close)
        stores = open_stores(settings, config)
        stack.push_async_callback(stores.close)
        books = Bookkeeper(stores.ledger, metrics)
        stack.push_async_callback(books.close)
        session = await stack.enter_async_context(open_session())
        # The same on every replica, and unknown to whoever reads the store.
        secret = settings.master_key.reveal().encode() if settings.master_key else b""
        deadline = config.compressor.deadline_ms
        room = FrontRoom.of(settings.cache_bytes, shared=stores.kind == "redis")
        shortener = Shortener(engine, stores.cache, secret=secret, deadline_ms=deadline, room=room)
        stack.push_async_callback(shortener.close)
        live = make_live(config, settings, stores, session)
        stack.push_async_callback(lambda: services.live.admission.close())
        alert = webhook_alert(session, lambda: services.live.config.quality.webhook)
        quality = QualityGuard(
            stores, engine, QualityMetrics(metrics.registry), lambda: services.live.config.policies, alert
        )
        vault = Vault(stores.cache, read_key(settings.encryption_key))
        services = Services(
            settings=settings,
            stores=stores,
            engine=engine,
            shortener=shortener,
            session=session,
            metrics=metrics,
            quality=quality,
            recovery=Recovery(vault, engine, metrics.registry),
            books=books,
            live=live,
            metrics_directory=metrics_directory,
            tracing=open_tracing(settings.otlp_endpoint, settings.service_name),
        )
        if services.tracing is not None:
            stack.push_async_callback(services.tracing.close)
        stack.push_async_callback(lambda: services.live.directory.close())
        await quality.open()
        stack.push_async_callback(quality.close)
        await stack.enter_async_context(_reloading(services))
        yield services


def load_tokenizers(config: Config) -> None:
    """Loads what the configured models count with (0.6 s each), so that no request has to wait for it."""
    for name, model in config.models.items():
        # An unknown tokenizer is the first request's to complain about; a glob's models are mostly OpenAI's.
        with contextlib.suppress(CompressorError):
            counter_for(model.tokenizer or model.model or name).count("a")


def make_live(config: Config, settings: Settings, stores: Stores, session: aiohttp.ClientSession) -> Live:
    """What one configuration makes of the open parts."""
    if any(policy.recovery for policy in config.policies.values()):
        importlib.import_module("gateway.recovery.cipher")  # now, so that no request waits for it
    admission = Admission(config, stores.ledger)
    return Live(
        config=config,
        directory=Directory(config, session),
        policies=PolicyBook(config.policies, config.routes),
        callers=Callers(config, settings, stores.registry, along=admission.read_along),
        admission=admission,
        prices=Prices(),
    )


@asynccontextmanager
async def _reloading(services: Services) -> AsyncIterator[None]:
    """Swaps `services.live` when terse.yaml changes. Without a file there is nothing to watch."""
    config = services.live.config
    if not config.file:
        yield
        return

    async def apply(new: Config) -> None:
        services.live = make_live(new, services.settings, services.stores, services.session)

    def tell(outcome: str) -> None:
        services.metrics.reloads.labels(outcome).inc()

    services.reloader = Reloader(config.file, services.settings, config, apply, tell=tell)
    async with reloading(services.reloader):
        yield


async def _open_engine(settings: CompressorSettings) -> ScoringEngine:
    if settings.url:
        remote = RemoteEngine(settings.url, deadline_ms=settings.deadline_ms)
        # One that is not there yet is asked again every second; until then the originals go out.
        with contextlib.suppress(CompressorError):
            await remote.connect()
        return remote
    config = CompressorConfig(
        model=settings.model,
        device=settings.device,
        max_batch_tokens=settings.max_batch_tokens,
        max_waiting_tokens=settings.max_waiting_tokens,
    )
    return await asyncio.to_thread(open_engine, config)
