"""Cuts a request into segments: every string with its place, its kind, and whether it may be shortened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from compressor.text.kinds import detect_kind
from compressor.text.line_text import goes_by_lines
from compressor.text.pieces import part_of
from gateway.chat.conversation import Conversation, Message, Slot, read_conversation
from gateway.chat.instructions import Kept, closing, merge, opening, tagged_passages
from gateway.shapes import ParsedRequest, Segment, SegmentKind
from policies import Policy, rule_for

CountTokens = Callable[[str], int]


def split_messages(request: ParsedRequest, policy: Policy, count: CountTokens | None = None) -> list[Segment]:
    """Every string of the request, in the order the upstream reads them; several segments where a part is
    protected.

    Args:
        request: The client's request.
        policy: Says which roles, tools and kinds of text may be shortened.
        count: Counts tokens of the target model's tokenizer, to tell a short live turn from a long one.
            None: four characters a token.
    """
    return split_conversation(read_conversation(request), policy, count or _rough_count)


def split_conversation(conversation: Conversation, policy: Policy, count: CountTokens) -> list[Segment]:
    """The segments of a conversation that was read already."""
    live = live_turn(conversation.messages)
    found = [segment for slot in conversation.preamble for segment in _cut(slot, -1, policy, ())]
    for index, message in enumerate(conversation.messages):
        found += split_message(message, index, policy, count if index == live or message.alone else None)
    return found


def split_message(
    message: Message, index: int, policy: Policy, live_count: CountTokens | None = None
) -> list[Segment]:
    """The segments of one message. With `live_count` it is the live turn: its instruction stays.

    A live turn shorter than the policy's `trigger_tokens` stays whole; of a longer one its opening and
    closing paragraphs do, so that a document pasted above a question is shortened when it is first paid for.
    """
    instruction = _instruction(message.slots, policy, live_count) if live_count else {}
    return [
        segment
        for position, slot in enumerate(message.slots)
        for segment in _cut(slot, index, policy, instruction.get(position, ()))
    ]


def live_turn(messages: Sequence[Message]) -> int:
    """The index of the last message with words of the user's own (results of tools are not), or -1."""
    for index in range(len(messages) - 1, -1, -1):
        if any(slot.role == "user" and not slot.tool for slot in messages[index].slots):
            return index
    return -1


def question_of(conversation: Conversation) -> str:
    """What the user asks for: the last turn's words, of a long one its closing paragraph; "" without any."""
    index = live_turn(conversation.messages)
    own = [slot.text for slot in conversation.messages[index].slots if slot.role == "user" and not slot.tool]
    if index < 0 or not own:
        return ""
    last = closing(own[-1])
    return own[-1][last.start : last.end].strip()


def _instruction(slots: Sequence[Slot], policy: Policy, count: CountTokens) -> dict[int, tuple[Kept, ...]]:
    """Position of each of the user's own strings -> what must stay of it."""
    own = [position for position, slot in enumerate(slots) if slot.role == "user" and not slot.tool]
    if not own:
        return {}
    if _shorter_than(policy.trigger_tokens, [slots[position].text for position in own], count):
        return {position: (Kept(0, len(slots[position].text), "instruction"),) for position in own}
    first, last = own[0], own[-1]
    kept: dict[int, tuple[Kept, ...]] = {first: (opening(slots[first].text),)}
    kept[last] = (*kept.get(last, ()), closing(slots[last].text))
    return kept


def _shorter_than(tokens: int, texts: Sequence[str], count: CountTokens) -> bool:
    # No tokenizer makes more than one token of a byte, nor fewer than one of 64 characters of running text.
    if sum(len(text) for text in texts) > 64 * tokens:
        return False
    if sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) < tokens:
        return True
    return sum(count(text) for text in texts) < tokens


def _cut(slot: Slot, index: int, policy: Policy, kept: Iterable[Kept]) -> Iterator[Segment]:
    """One string as segments: protected passages and the free text between them."""
    kind = _kind(slot)
    whole = _by_nature(slot, policy) or _by_policy(slot, policy) or ("base64" if kind == "base64" else "")
    if whole or not slot.text:
        yield Segment(slot.path, slot.text, index, slot.role, kind, whole or "empty", slot.tool)
        return
    passages = merge(slot.text, [*kept, *tagged_passages(slot.text)])
    if not passages:
        yield Segment(slot.path, slot.text, index, slot.role, kind, "", slot.tool)
        return
    position = 0
    for passage in [*passages, Kept(len(slot.text), len(slot.text), "")]:
        if passage.start > position:
            text = part_of(slot.text, position, passage.start)
            yield Segment(slot.path, text, index, slot.role, _kind_of(text, slot), "", slot.tool, position)
        if passage.end > passage.start:
            text = part_of(slot.text, passage.start, passage.end)
            yield Segment(
                slot.path, text, index, slot.role, "prose", passage.reason, slot.tool, passage.start
            )
        position = passage.end


def _by_nature(slot: Slot, policy: Policy) -> str:
    """Why a string stays whole whatever the policy says, or "".

    A marker of the prompt cache protects what it marks, unless a rule for that role or tool says `mode: on`:
    agents mark their newest result at every turn, and as forms never change, the shortened result is cached
    as well.
    """
    if slot.protected == "cache-control" and rule_for(policy, slot.role, slot.tool).mode == "on":
        return ""
    return slot.protected


def _by_policy(slot: Slot, policy: Policy) -> str:
    """Why the policy keeps a string whole, or ""."""
    rule = rule_for(policy, slot.role, slot.tool)
    if rule.mode in ("off", "audit"):
        return "policy"
    if slot.role in ("system", "developer") and "system" in policy.protect:
        return "system"
    # What the model wrote it has cached, and reads as its own words: shortened only where the policy says so.
    if slot.role == "assistant" and rule.mode is None and rule.keep is None:
        return "assistant"
    return ""


def _kind(slot: Slot) -> SegmentKind:
    return "tool-call" if slot.protected == "tool-call" else _kind_of(slot.text, slot)


def _kind_of(text: str, slot: Slot) -> SegmentKind:
    """The kind of a text; rows that a tool gave back (listings, settings, tests) are read as a log is."""
    kind = cast(SegmentKind, detect_kind(text))
    by_lines = slot.role == "tool" and (kind == "prose" or (kind == "table" and "|" in text))
    return "log" if by_lines and goes_by_lines(text) else kind


def _rough_count(text: str) -> int:
    return len(text) // 4
