"""Passages of the originals for a query: verbatim, in order, bounded."""

from __future__ import annotations

from compressor.engine.fake import FakeEngine
from compressor.errors import Overloaded
from gateway.recovery.recall import GAP, NOTHING, RETURNED_CHARACTERS, recall
from tests.support.chat_bodies import long_text

TEXT = long_text(300)


async def test_the_passage_that_answers_is_found_verbatim() -> None:
    original = TEXT[:9000] + " The secret ingredient of the sauce is cardamom. " + TEXT[9000:]
    found = await recall("secret ingredient sauce", ["Something else.", original], FakeEngine())
    assert "The secret ingredient of the sauce is cardamom." in found
    assert len(found) <= RETURNED_CHARACTERS + 40 * len(GAP)
    assert all(part.strip() in original for part in found.split(GAP))


async def test_passages_stand_in_the_order_of_the_originals() -> None:
    first, second = "Many trees bear apples. " + TEXT[:3000], TEXT[3000:6000] + " Old trees need water."
    found = await recall("trees", [first, second], FakeEngine())
    assert found.index("Many trees bear apples.") < found.index("Old trees need water.")


async def test_without_the_encoder_words_decide() -> None:
    original = TEXT + " The secret ingredient is cardamom."
    found = await recall("secret ingredient", [original], FakeEngine(error=Overloaded("full")))
    assert "cardamom" in found


async def test_what_is_not_there() -> None:
    assert await recall("zebra quagga", [TEXT], FakeEngine()) == NOTHING
    assert await recall("anything", [], FakeEngine()) == NOTHING
    assert await recall("anything", [""], FakeEngine()) == NOTHING


async def test_an_empty_query_gets_the_beginning() -> None:
    found = await recall(" ", [TEXT], FakeEngine())
    assert TEXT.startswith(found) and len(found) > RETURNED_CHARACTERS / 2


async def test_one_passage_that_is_too_long_is_cut() -> None:
    line = "needle " + "x" * 50_000
    found = await recall("needle", [line], FakeEngine())
    assert line.startswith(found) and 0 < len(found) <= RETURNED_CHARACTERS
