"""Small plots for a report: score against tokens, one picture a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compressor.evaluation.report import SCORE_NAMES
from compressor.evaluation.summary import ONCE, Cell, CellKey


def save_plots(cells: Mapping[CellKey, Cell], folder: Path) -> list[Path]:
    """`score-DATASET.svg` for each data set: main score, or answers kept, over the share of tokens kept."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    paths = []
    for dataset in dict.fromkeys(key[0] for key in cells):
        figure, axes = plt.subplots(figsize=(6, 3.6))
        mine = {key: cell for key, cell in cells.items() if key[0] == dataset}
        label = "answer kept"
        for method in dict.fromkeys(key[1] for key in mine):
            points = sorted((cell.keep, *value_of(cell)) for key, cell in mine.items() if key[1] == method)
            label = points[0][3] if points else label
            shares, values = [p[0] for p in points], [p[1] for p in points]
            if method in ONCE:
                axes.axhline(values[0], linestyle=":", linewidth=1, color="gray")
                axes.annotate(method, (0.0, values[0]), fontsize=7, color="gray")
                continue
            axes.errorbar(shares, values, yerr=[p[2] for p in points], marker="o", markersize=3, linewidth=1,
                          capsize=2, label=method)  # fmt: skip
        axes.set_xlabel("share of tokens kept")
        axes.set_ylabel(f"{label}, %")
        axes.set_title(dataset, fontsize=10)
        axes.legend(fontsize=6, frameon=False)
        figure.tight_layout()
        path = folder / f"score-{dataset}.svg"
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        paths.append(path)
    return paths


def value_of(cell: Cell) -> tuple[float, float, str]:
    """Main score in percent, half its interval, its name."""
    name, interval = next(iter(cell.scores.items()), ("kept", cell.kept))
    if interval is None:
        return 0.0, 0.0, name
    return 100 * interval.mean, 50 * (interval.high - interval.low), SCORE_NAMES.get(name, name)
