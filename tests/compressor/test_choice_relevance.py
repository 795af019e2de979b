import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text.choice import Passage, shorten_passages
from compressor.text.relevance import blend_relevance
from compressor.text.tokens import counter_for
from compressor.text.words import split_words

COUNTER = counter_for("o200k_base")


@pytest.mark.parametrize(
    ("question", "units", "best"),
    [
        (
            "When was the reaper invented?",
            ["The sky is blue.", "McCormick's invention of the reaper.", "It rains."],
            1,
        ),
        ("백두산의 높이는?", ["한국은 아름답다.", "백두산은 높다.", "바다가 있다."], 1),
        ("梵語的研究由誰開創？", ["歐洲很大。", "天氣好。", "梵語研究由德國學者開創。"], 2),
        ("ما هي عاصمة العراق؟", ["السماء زرقاء.", "بغداد عاصمة عراق قديمة.", "المطر غزير."], 1),
        ("Wo liegt Köln?", ["KÖLN liegt am Rhein.", "Berlin ist groß.", "Es regnet."], 0),
    ],
)
def test_the_unit_that_shares_rare_words_is_best(question: str, units: list[str], best: int) -> None:
    assert int(np.argmax(blend_relevance(question, [units], [None])[0])) == best


def test_the_encoder_decides_where_no_word_is_shared() -> None:
    ranks = np.asarray([10, 200, 90], np.uint8)
    values = blend_relevance("pluie", [["Sun.", "Rain falls.", "Wind."]], [ranks])[0]
    assert np.argsort(values).tolist() == [0, 2, 1]


def test_texts_are_on_one_scale() -> None:
    low, high = blend_relevance(
        "the price of ships", [["Trees grow.", "Birds sing."], ["Ships cost a price."]], [None, None]
    )
    assert high[0] > low.max()


@given(st.text(), st.lists(st.lists(st.text(), max_size=4), max_size=3))
def test_one_finite_value_a_unit(question: str, units: list[list[str]]) -> None:
    values = blend_relevance(question, units, [None] * len(units))
    assert [len(one) for one in values] == [len(parts) for parts in units]
    assert all(np.isfinite(one).all() for one in values)


def test_a_question_alone_picks_whole_sentences() -> None:
    facts = [
        f"The {thing} was built in {year} by the {maker}."
        for thing, year, maker in zip(
            ["bridge", "tower", "castle", "harbour", "station", "museum", "theatre", "market"],
            range(1901, 1909),
            ["city", "king", "duke", "navy", "railway", "state", "actors", "guild"],
            strict=True,
        )
    ]
    text = " ".join(facts)
    passage = Passage(
        text, np.full(len(split_words(text)), 9, np.uint8), frozenset(), question="Who built the harbour?"
    )
    result = shorten_passages([passage], COUNTER.count(text) // 4, COUNTER)[0]
    assert facts[3] in result.text
    other = Passage(
        "Nothing of the kind here. Really nothing. At all. Ever.", np.full(10, 9, np.uint8), frozenset()
    )
    both = shorten_passages([passage, other], COUNTER.count(text) // 4, COUNTER)
    assert facts[3] in both[0].text
