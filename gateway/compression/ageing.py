"""Old results of tools, which a policy may shorten once more when a prefix is written anew anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.chat.conversation import Conversation, Message, Slot
from gateway.compression.prefixes import Form
from policies import Policy, rule_for

# A result that would lose fewer tokens than this is left as it is.
_LEAST_SAVED = 100


@dataclass(frozen=True, slots=True)
class Ageing:
    """Messages with old results, and the tokens that shortening them once more is expected to leave out."""

    messages: frozenset[int] = frozenset()
    tokens: int = 0

    def settled(self, forms: dict[int, Form], old: Mapping[int, Form]) -> dict[int, Form]:
        """The forms, with old results marked as such; none becomes longer than it was."""
        for index in self.messages.intersection(forms):
            form = forms[index]
            better = form if form.tokens_after < old[index].tokens_after else old[index]
            forms[index] = replace(better, aged=True)
        return forms


def find_old_results(policy: Policy, conversation: Conversation, old: Mapping[int, Form]) -> Ageing:
    """What may be shortened once more: all results but the policy's newest ones.

    Args:
        policy: Its `old_results` says how many stay, and how much of the others.
        conversation: The request.
        old: The forms of messages that were sent before.
    """
    rule = policy.old_results
    if rule is None:
        return Ageing()
    results = [i for i, message in enumerate(conversation.messages) if _may_age(message, policy)]
    messages, tokens = [], 0
    for index in results[: -rule.newest]:
        form = old.get(index)
        if form is None or form.aged:
            continue
        surplus = form.tokens_after - round(rule.keep * form.tokens_before)
        if surplus >= _LEAST_SAVED:
            messages.append(index)
            tokens += surplus
    return Ageing(frozenset(messages), tokens)


def _may_age(message: Message, policy: Policy) -> bool:
    return any(_free(slot, policy) for slot in message.slots)


def _free(slot: Slot, policy: Policy) -> bool:
    if slot.role != "tool":
        return False
    mode = rule_for(policy, slot.role, slot.tool).mode
    return mode not in ("off", "audit") and (not slot.protected or mode == "on")
