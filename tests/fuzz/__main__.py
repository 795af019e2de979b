"""Runs one target under atheris (libFuzzer) for a while: python -m tests.fuzz TARGET --seconds 120."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

INSTRUMENTED = [
    "gateway.chat",
    "gateway.accounting",
    "gateway.configuration",
    "compressor.tagged",
    "policies",
    "yaml",
]


def main() -> None:
    """Ends with the fuzzer: 0 after the time, else the input that broke the target lies in --found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument(
        "--found", type=Path, default=Path("fuzz-found"), help="folder for inputs that break it"
    )
    options = parser.parse_args()
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[options.target]
    options.found.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="terse-fuzz-") as folder:
        corpus, words = Path(folder) / "corpus", Path(folder) / "words"
        corpus.mkdir()
        for number, seed in enumerate(target.seeds):
            (corpus / str(number)).write_bytes(seed)
        words.write_text("".join('"' + _escaped(word) + '"\n' for word in target.words))
        limits = [f"-max_total_time={options.seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"]
        told = [
            f"-dict={words}",
            f"-artifact_prefix={options.found / options.target}-",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *limits, *told, str(corpus)], target.run)
        atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(c if c.isalnum() else f"\\x{ord(c):02x}" for c in word)


if __name__ == "__main__":
    main()
