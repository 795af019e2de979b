from __future__ import annotations

from pathlib import Path

import pytest

from compressor.errors import InvalidOption
from compressor.training.filter_pairs import filter_pairs, write_report
from compressor.training.records import InvalidRecord, Labelled, Origin


def record(number: int, variation: float, gap: float) -> Labelled:
    metrics = {"variation": variation, "gap": gap, "hitting": 0.5, "matching": 0.5 - gap}
    return Labelled(str(number), "text", (), Origin("d"), metrics=metrics)


def test_the_worst_variation_goes_first_then_the_widest_gap() -> None:
    records = [record(number, number / 100, (99 - number) / 100) for number in range(100)]
    kept, report = filter_pairs(records)
    assert (report.dropped_variation, report.dropped_gap, report.kept) == (5, 10, 85)
    assert [one.id for one in kept] == [str(number) for number in range(10, 95)]
    assert report.variation_limit == pytest.approx(0.94)
    assert report.gap_limit == pytest.approx(0.89)


def test_perfect_pairs_are_never_dropped() -> None:
    kept, report = filter_pairs([record(number, 0.0, 0.0) for number in range(40)])
    assert len(kept) == report.kept == 40


def test_nothing_in_gives_nothing_out() -> None:
    assert filter_pairs([])[0] == []


def test_records_without_measures_and_wrong_shares_are_refused() -> None:
    with pytest.raises(InvalidRecord, match="no measures"):
        filter_pairs([Labelled("7", "text", (), Origin("d"))])
    with pytest.raises(InvalidOption, match="drop_gap"):
        filter_pairs([], drop_gap=1.0)


def test_the_report_has_its_plots(tmp_path: Path) -> None:
    records = [record(number, number / 100, 0.1) for number in range(20)]
    _, report = filter_pairs(records)
    write_report(records, report, tmp_path / "filter.md")
    text = (tmp_path / "filter.md").read_text(encoding="utf-8")
    assert "20 pairs" in text
    for name in ("variation", "hitting", "matching", "gap"):
        assert f"filter-{name}.svg" in text
        assert (tmp_path / f"filter-{name}.svg").read_text(encoding="utf-8").startswith("<?xml")
