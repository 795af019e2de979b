"""How many tokens an upstream bills for one that we count, where its tokenizer is not here.

Learnt per model from what is billed: a plane through (tokens of text that we counted, tokens that stand
beside it by our estimate, billed tokens), each request by its relative error, the latest two hundred counting
most. Kept in the store, so that replicas and restarts begin with what is known.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.stores.base import Cache

# Before anything was billed: a token is a token, half of the estimate stands beside it, and nothing else.
# As firm as two requests' word for the first; the others matter less.
_PRIOR = np.asarray([1.0, 0.5, 0.0])
_FIRMNESS = np.asarray([2.0, 0.02, 0.05])
_PER_REQUEST = 100.0  # unit of the third coefficient: tokens that stand beside any request
_FADES = 0.995
_LEAST_COUNTED = 200  # tokens; smaller requests say more of templates than of text
_LEAST, _MOST = 0.5, 2.0
_MODELS = 500
_KEPT_EVERY = 20  # requests; the first few at once
_TTL_SECONDS = 90 * 24 * 3600


@dataclass(slots=True)
class _Sums:
    """Normal equations of one model, and the ratio that follows."""

    products: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    seen: int = 0

    def add(self, counted: int, beside: int, billed: int) -> None:
        row = np.asarray([1.0, beside / counted, _PER_REQUEST / counted])
        self.products = _FADES * self.products + np.outer(row, row)
        self.values = _FADES * self.values + row * (billed / counted)
        self.seen += 1

    def ratio(self) -> float:
        products = self.products + np.diag(_FIRMNESS)
        ratio = float(np.linalg.solve(products, self.values + _FIRMNESS * _PRIOR)[0])
        return min(_MOST, max(_LEAST, ratio))

    def encode(self) -> bytes:
        return orjson.dumps([self.products.tolist(), self.values.tolist(), self.seen])


def _decode(data: bytes | None) -> _Sums:
    try:
        products, values, seen = orjson.loads(data or b"")
        sums = _Sums(np.asarray(products, np.float64), np.asarray(values, np.float64), int(seen))
    except (ValueError, TypeError):
        return _Sums()
    return sums if sums.products.shape == (3, 3) and sums.values.shape == (3,) else _Sums()


class TokenRatios:
    """Billed tokens a counted one, by model. One a process, behind one store."""

    def __init__(self, store: Cache) -> None:
        self._store = store
        self._sums: OrderedDict[str, _Sums] = OrderedDict()

    async def of(self, model: str) -> float | None:
        """What was learnt; None before any request of the model was billed."""
        sums = await self._known(model)
        return sums.ratio() if sums.seen else None

    async def note(self, model: str, counted: int, beside: int, billed: int) -> None:
        """One bill: tokens of its text by our count, those beside it by our estimate, and all by its own."""
        if counted < _LEAST_COUNTED or not _LEAST * counted < billed < 2 * _MOST * counted:
            return
        sums = await self._known(model)
        sums.add(counted, beside, billed)
        if sums.seen <= 3 or sums.seen % _KEPT_EVERY == 0:
            await self._store.set_many({_key(model): sums.encode()}, _TTL_SECONDS)

    async def _known(self, model: str) -> _Sums:
        sums = self._sums.get(model)
        if sums is None:
            sums = self._sums.setdefault(model, _decode((await self._store.get_many([_key(model)]))[0]))
            while len(self._sums) > _MODELS:
                self._sums.popitem(last=False)
        self._sums.move_to_end(model)
        return sums


def _key(model: str) -> str:
    return f"r:{model}"
