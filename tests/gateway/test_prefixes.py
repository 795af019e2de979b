from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.conversation import read_conversation
from gateway.compression import prefixes
from gateway.compression.bounds import compact
from gateway.compression.history import sort_messages
from gateway.compression.prefixes import (
    Chain,
    Form,
    Head,
    Known,
    PrefixStore,
    Sighting,
    chain_of,
    decode_form,
)
from gateway.shapes import Surface
from gateway.stores.memory import MemoryCache
from tests.support.chat_bodies import WEATHER_TOOL, conversation
from tests.support.shortening import agent_turn, parsed

MARKER = {"type": "ephemeral"}
TURNS = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye")]


def chain(raw: dict[str, Any], surface: Surface = "chat", salt: bytes = b"s", space: str = "m") -> Chain:
    return chain_of(read_conversation(parsed(raw, surface)), salt, space)


def claude(*contents: Any, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]
    return {"model": "claude", "messages": messages, **more}


def test_a_conversation_that_goes_on_keeps_its_links() -> None:
    short, long = chain(conversation(TURNS[:2])), chain(conversation(TURNS))
    assert long.links[:2] == short.links
    assert len(set(long.links)) == 4
    assert short.head == long.links[1]
    assert long.heads == (3, 1)


@pytest.mark.parametrize(
    "other",
    [
        chain(conversation([("system", "Be mean."), *TURNS[1:]])),
        chain(conversation(TURNS, tools=[WEATHER_TOOL])),
        chain(conversation(TURNS), salt=b"another team"),
        chain(conversation(TURNS), space="another model"),
    ],
)
def test_whatever_stands_before_a_message_is_in_its_link(other: Chain) -> None:
    assert not set(other.links) & set(chain(conversation(TURNS)).links)


def test_what_the_upstream_does_not_read_is_not() -> None:
    assert chain(conversation(TURNS, temperature=0.3, user="x")) == chain(conversation(TURNS))


def test_markers_of_the_prompt_cache_move_without_a_trace() -> None:
    block = {"type": "text", "text": "Hi"}
    plain = chain(claude("Hi", "Hello."), "messages")
    assert chain(claude([block], "Hello."), "messages") == plain
    assert chain(claude([{**block, "cache_control": MARKER}], "Hello."), "messages") == plain
    system = [{"type": "text", "text": "Be kind.", "cache_control": MARKER}]
    unmarked = [{"type": "text", "text": "Be kind."}]
    assert chain(claude("Hi", system=system), "messages") == chain(claude("Hi", system=unmarked), "messages")
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{**block, "cache_control": MARKER}, block],
    }
    without = {**result, "content": [block, block]}
    assert (
        chain(claude([result, block]), "messages").links == chain(claude([without, block]), "messages").links
    )


def test_text_in_one_or_two_parts_is_not_the_same() -> None:
    block = {"type": "text", "text": "Hi"}
    assert chain(claude([block, block]), "messages").links != chain(claude("HiHi"), "messages").links


def test_unpaired_surrogates_and_huge_numbers_have_links() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"\\ud800","n":1e400}]}'
    from gateway.chat.request import parse_request

    request = parse_request("chat", "/v1/chat/completions", body)
    assert len(chain_of(read_conversation(request), b"", "").links) == 1


def test_consecutive_items_of_the_model_are_one_turn() -> None:
    raw = {
        "model": "m",
        "input": [
            {"role": "user", "content": "Look it up."},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "result"},
        ],
    }
    assert chain(raw, "responses").heads == (3, 0)


forms = st.builds(
    Form,
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.lists(
        st.tuples(
            st.integers(0, 9), st.integers(0, 10**6), st.lists(st.integers(0, 10**6), max_size=6).map(tuple)
        ),
        max_size=3,
    ).map(tuple),
)


@given(forms)
def test_forms_survive_the_store(form: Form) -> None:
    assert decode_form(form.encode()) == form


@given(st.binary(max_size=60))
def test_anything_else_is_no_form(data: bytes) -> None:
    decode_form(data)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"[1,2]", b'[1,2,3,[["a"]]]', b'{"a":1}', b"[1,2,3,[[0,5,7]]]"]
)
def test_damaged_bytes_are_no_form(data: bytes) -> None:
    assert decode_form(data) is None


@pytest.mark.parametrize("bounds", [(0, 1, 2), (3, 1), (0, 99)])
def test_a_form_that_does_not_fit_is_refused(bounds: tuple[int, ...]) -> None:
    message = read_conversation(parsed(conversation([("user", "one two")]))).messages[0]
    assert Form(2, 1, 0, ((0, 7, (0, 3)),)).changes(message) == {("messages", 0, "content"): "one"}
    with pytest.raises(ValueError, match="form"):
        Form(2, 1, 0, ((0, 7, bounds),)).changes(message)
    with pytest.raises(ValueError, match="form"):
        Form(2, 1, 0, ((0, 8, (0, 3)),)).changes(message)
    with pytest.raises(ValueError, match="form"):
        Form(2, 1, 0, ((1, 7, (0, 3)),)).changes(message)


async def test_the_first_form_wins() -> None:
    store = MemoryCache()
    one, other = PrefixStore(store), PrefixStore(store)
    links = chain(conversation(TURNS[:2]))
    mine, theirs = Form(5, 2), Form(5, 3)
    head = Head("", 1, 5, 5, 1.0)
    assert await one.fix(links, "", {0: mine}, head) == ({0: mine}, head)
    assert await other.fix(links, "", {0: theirs}, Head("x", 9, 9, 9, 9.0)) == ({0: mine}, head)
    known = await other.look_up(links)
    assert known.forms == (mine, None)
    assert (known.head, known.head_at) == (head, 1)


async def test_generations_are_apart_and_the_last_head_leads_to_its_own() -> None:
    store = PrefixStore(MemoryCache())
    before, after = chain(conversation(TURNS[:2])), chain(conversation(TURNS))
    await store.fix(before, "", {0: Form(5, 5), 1: Form(4, 4)}, Head("", 1, 9, 9, 1.0))
    await store.fix(before, "g", {0: Form(5, 1), 1: Form(4, 1)}, Head("", 1, 9, 9, 1.0))
    assert (await store.look_up(after)).forms[:2] == (Form(5, 5), Form(4, 4))
    await store.fix(after, "g", {}, Head("g", 2, 9, 9, 2.0))
    assert (await store.look_up(after)).forms[:2] == (Form(5, 1), Form(4, 1))


async def test_sightings() -> None:
    store = PrefixStore(MemoryCache())
    links = chain(conversation(TURNS[:2]))
    await store.fix(links, "", {}, Head("", 1, 9, 9, 1.0))
    await store.note(links.head, Sighting(0.75))
    await store.note_cold(links.space, 0.0)
    known = await store.look_up(chain(conversation(TURNS)))
    assert (known.sighting.hit_rate, known.cold.hit_rate) == (0.75, 0.0)
    await store.note_cold(links.space, 1.0)
    assert (await store.look_up(links)).cold.hit_rate == pytest.approx(0.2)


def history(raw: dict[str, Any], forms: tuple[Form | None, ...] = (), small: int = -1) -> Any:
    links = chain(raw)
    known = Known(forms or (None,) * len(links.links), None)
    return sort_messages(read_conversation(parsed(raw)), links, known, lambda end: end <= small)


def test_what_is_known_of_messages() -> None:
    raw = {
        "model": "m",
        "messages": [{"role": "user", "content": "x" * 50}, *agent_turn(1, "y"), *agent_turn(2, "z")],
    }
    first = history({"model": "m", "messages": raw["messages"][:1]})
    assert ([*first.new], [*first.unseen], first.turns) == ([0], [], 1)
    unknown = history(raw)
    assert ([*unknown.unseen], [*unknown.new], unknown.seen) == ([0, 1, 2], [3, 4], False)
    assert (unknown.turns, [*unknown.passed], [*unknown.sent]) == (3, [0, 1, 2], [0, 1, 2])
    small = history(raw, small=2)
    assert ([*small.small], [*small.unseen], [*small.new]) == ([0, 1, 2], [], [3, 4])
    assert [*small.passed] == [*small.sent] == [0, 1, 2]
    form = Form(1, 1)
    edited = history(raw, (form, form, None, None, None))
    assert (sorted(edited.forms), [*edited.unseen], [*edited.new]) == ([0, 1], [], [2, 3, 4])
    assert ([*edited.passed], [*edited.sent]) == ([], [0, 1])


def test_a_form_with_very_many_slices_is_work_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    form = Form(9, 5, 0, ((0, 5000, compact(range(1001))), (2, 10, (0, 3)), (3, 4, ())), aged=True)
    assert not form.is_long
    monkeypatch.setattr(prefixes, "_LONG_BOUNDS", 100)
    assert form.is_long


async def test_forms_that_do_not_fit_into_the_front_are_known_all_the_same() -> None:
    """One that was taken for unknown would be sent in another form than the turn before."""
    names = chain(conversation(TURNS))
    forms = {n: Form(900, 500, 0, ((0, 9000, compact(range(n, 2000 + n))),)) for n in range(len(TURNS))}
    backend = MemoryCache()
    store = PrefixStore(backend, front_bytes=10_000)
    winners, _ = await store.fix(names, "", forms, Head("", 1, 1, 1, 1.0))
    assert winners == forms
    for reader in (store, PrefixStore(backend, front_bytes=0), PrefixStore(backend)):
        for _ in range(2):
            known = await reader.look_up(names)
            assert [form and form.encode() for form in known.forms] == [
                form.encode() for form in forms.values()
            ]
    assert len(store._front) == 1


async def test_the_front_is_bounded_in_bytes() -> None:
    store = PrefixStore(MemoryCache(), front_bytes=50_000)
    for n in range(300):
        names = chain(conversation([*TURNS, ("user", str(n))]))
        forms = {4: Form(9, 5, 0, ((0, 50, (0, n, 20, 30)),)), 3: Form(9, 9)}
        await store.fix(names, "", forms, Head("", 1, 1, 1, 1.0))
    assert 49_000 < store._front.bytes_used <= 50_000
    assert 50 < len(store._front) < 125


async def test_long_forms_are_fixed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "_LONG_BOUNDS", 2)
    monkeypatch.setattr(prefixes, "_LONG_BYTES", 2)
    store, names = MemoryCache(), chain(conversation(TURNS))
    ours, theirs = (Form(9, after, 0, ((0, 50, (0, after, 20, 30)),)) for after in (5, 6))
    for form in (ours, theirs):
        winners, _ = await PrefixStore(store).fix(names, "", {0: form, 1: form}, Head("", 1, 1, 1, 1.0))
        assert winners == {0: ours, 1: ours}
    assert (await PrefixStore(store).look_up(names)).forms[:2] == (ours, ours)
