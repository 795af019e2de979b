"""Tells a webhook of a fall-back: one POST with JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from gateway.config import Secret
from gateway.quality.guard import Alert

_TIMEOUT = aiohttp.ClientTimeout(total=10)


def webhook_alert(session: aiohttp.ClientSession, url: Callable[[], Secret | None]) -> Alert:
    """Posts to what `url` gives at that moment, None: to nobody. The alert raises aiohttp.ClientError."""

    async def alert(message: Mapping[str, Any]) -> None:
        target = url()
        if target is None:
            return
        async with session.post(target.reveal(), json=dict(message), timeout=_TIMEOUT) as reply:
            reply.raise_for_status()

    return alert
