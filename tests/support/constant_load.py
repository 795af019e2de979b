"""Clients on threads that ask without a pause until the load is over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class ConstantLoad:
    """Runs `ask(number, over)` on a thread for each client; each asks until `over` is set."""

    def __init__(self, clients: int, ask: Callable[[int, threading.Event], None]) -> None:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=ask, args=(n, self._over)) for n in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)
