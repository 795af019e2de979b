"""Calls that the gateway makes by itself, for comparison: admitted, paid for and booked like every other.

What they cost is charged against the savings, on the account of the team whose request is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from gateway.access.callers import ANONYMOUS, key_of
from gateway.accounting.receipts import Exchange, write_receipt
from gateway.accounting.usage import UsageWatch
from gateway.errors import GatewayError
from gateway.exchange import Admitted
from gateway.shapes import Compressed, ParsedRequest
from gateway.stores.base import Ledger
from gateway.stores.books import entry_of
from gateway.upstream.directory import Outgoing
from policies.shapes import Plan

if TYPE_CHECKING:
    from gateway.services import Live

Purpose = Literal["shadow", "judge"]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is asked, what for, and the size of its input (for the reservation)."""

    request: ParsedRequest
    purpose: Purpose
    tokens: int
    headers: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """The reply's body, and what it cost."""

    body: bytes
    cost_usd: float


async def ask(inquiry: Inquiry, admitted: Admitted, live: Live, ledger: Ledger) -> Asked | None:
    """Sends one plain (not streamed) request on the account of `admitted`; None when no good reply came.

    Raises nothing: a budget that is spent, a limit or a broken upstream only mean that nothing is compared.
    """
    request, purpose, tokens = inquiry.request, inquiry.purpose, inquiry.tokens
    model = live.directory.find(request.model)
    price = live.price_of(model)
    plan = Plan(compress=False, mode="off", target=0, keep=1.0, reason=purpose)
    compressed = Compressed(
        body=request.body,
        status="off",
        skip_reason=purpose,
        plan=plan,
        tokens_before=tokens,
        tokens_after=tokens,
        cache="none",
        overhead_ms=0.0,
    )
    try:
        hold = await live.admission.admit(admitted.caller, admitted.match, request, compressed, price)
    except GatewayError:
        return None
    key = key_of(admitted.received.named) if admitted.caller.key_id == ANONYMOUS else ""
    try:
        sent = await live.directory.send(Outgoing(request, request.body, inquiry.headers, None, key), model)
        body = await sent.reply.body.read()
        if sent.reply.status != 200:
            raise GatewayError(f"status {sent.reply.status}")
    except GatewayError:
        await live.admission.release(hold)
        return None
    except BaseException:
        await live.admission.release(hold)
        raise
    watch = UsageWatch(request.surface, stream=False, input_tokens=tokens)
    watch.feed(body)
    usage = watch.result()
    exchange = Exchange(
        request_id=f"{admitted.received.request_id}-{purpose}",
        request=request,
        caller=admitted.caller,
        match=admitted.match,
        compressed=compressed,
        upstream=sent.upstream,
        price=live.price_of(sent.model),
        status_code=sent.reply.status,
        upstream_ms=0.0,
        first_byte_ms=0.0,
        outcome=purpose,
    )
    receipt = write_receipt(exchange, usage)
    # Without Terse nobody would have asked: all of it is a cost.
    receipt = replace(receipt, counterfactual_usd=0.0, saved_usd=-receipt.cost_usd)
    await live.admission.settle(hold, usage, receipt.cost_usd)
    await ledger.book(entry_of(receipt))
    return Asked(body, receipt.cost_usd)
