"""Method names as the command line gives them, and how each is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from compressor.errors import InvalidOption
from compressor.evaluation.methods.plain import Fixed, ScoredWords, first_words, random_words
from compressor.evaluation.methods.shapes import Method
from compressor.text.tokens import TokenCounter

if TYPE_CHECKING:
    from compressor.engine.protocol import ScoringEngine
    from compressor.evaluation.causal import CausalModel
    from compressor.evaluation.recovery import Recovery

NEEDS_QUESTION = ("longllmlingua", "sentences")


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """`NAME,option=value,…` taken apart."""

    name: str
    label: str  # in the report; unique within a run
    options: Mapping[str, str] = field(default_factory=dict)
    keeps: tuple[float, ...] | None = None  # instead of the run's
    limit: int | None = None  # instead of the run's
    question: bool = False  # whether the method is given the question


def parse_spec(text: str) -> MethodSpec:
    """Every method has keep=0.5+0.33, limit=50, label=… and question=yes. Raises InvalidOption."""
    name, *pairs = [part.strip() for part in text.split(",")]
    if name not in OPENERS:
        raise InvalidOption(f"method {name!r}: one of {', '.join(sorted(OPENERS))} is needed")
    options: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not value:
            raise InvalidOption(f"method {text!r}: {pair!r} is not option=value")
        options[key] = value
    label = options.pop("label", "")
    keep, limit = options.pop("keep", ""), options.pop("limit", "")
    question = options.pop("question", "yes" if name in NEEDS_QUESTION else "no")
    if question not in ("yes", "no"):
        raise InvalidOption(f"method {text!r}: question is yes or no")
    try:
        keeps = tuple(float(part) for part in keep.split("+")) if keep else None
        most = int(limit) if limit else None
    except ValueError as error:
        raise InvalidOption(f"method {text!r}: {error}") from error
    if name in ("full", "empty"):
        keeps = (1.0,) if name == "full" else (0.0,)
    shown = [name, *(f"{k}={v}" for k, v in options.items() if k not in ("model", "device"))]
    if question == "yes" and name not in NEEDS_QUESTION:
        shown.append("question")
    return MethodSpec(name, label or " ".join(shown), options, keeps, most, question == "yes")


@dataclass(frozen=True, slots=True)
class Setup:
    """What every method of a run shares."""

    counter: TokenCounter  # of the budget
    device: str = "cpu"
    causal: str = ""  # folder of the causal language model, unless the method names its own
    model: str = "default"  # our encoder, unless the method names its own
    remember: bool = False  # score each text once, whatever the rate and the method


def open_method(spec: MethodSpec, setup: Setup) -> Method:
    """Loads what the method needs. Raises InvalidOption, ModelLoadFailed."""
    return OPENERS[spec.name](spec, setup)


def known_options(spec: MethodSpec, *names: str) -> None:
    """Raises InvalidOption, naming the options that the method does not have."""
    unknown = sorted(set(spec.options) - set(names))
    if unknown:
        raise InvalidOption(
            f"method {spec.name} has no option {', '.join(unknown)}"
            + (f"; it has {', '.join(names)}" if names else "")
        )


@lru_cache(maxsize=2)  # LLMLingua, LongLLMLingua and Selective-Context share one
def causal_model(folder: str, device: str) -> CausalModel:
    """The causal language model of a folder, opened once a process."""
    from compressor.evaluation.causal import CausalModel

    return CausalModel.open(folder, device)


def causal_of(spec: MethodSpec, setup: Setup) -> CausalModel:
    """The causal language model of a method. Raises InvalidOption where none is named."""
    folder = spec.options.get("model", setup.causal)
    if not folder:
        raise InvalidOption(
            f"method {spec.name} needs a causal language model: model=FOLDER or --causal FOLDER"
        )
    return causal_model(folder, setup.device)


def open_fixed(spec: MethodSpec, setup: Setup) -> Method:
    """The whole text, or none of it."""
    known_options(spec)
    return Fixed(full=spec.name == "full")


def open_plain(spec: MethodSpec, setup: Setup) -> Method:
    """The first words, or random ones."""
    known_options(spec)
    return ScoredWords(first_words if spec.name == "first" else random_words, setup.counter)


def open_selective(spec: MethodSpec, setup: Setup) -> Method:
    """Selective-Context."""
    from compressor.evaluation.methods.selective_context import SelectiveContext

    known_options(spec, "model", "unit")
    unit = spec.options.get("unit", "word")
    if unit == "sentence":
        return SelectiveContext(causal_of(spec, setup), setup.counter, "sentence")
    if unit == "word":
        return SelectiveContext(causal_of(spec, setup), setup.counter, "word")
    raise InvalidOption(f"selective-context: unit is word or sentence, not {unit!r}")


def open_llmlingua(spec: MethodSpec, setup: Setup) -> Method:
    """LLMLingua."""
    from compressor.evaluation.methods.llmlingua import LLMLingua

    known_options(spec, "model")
    return LLMLingua(causal_of(spec, setup), setup.counter)


def open_longllmlingua(spec: MethodSpec, setup: Setup) -> Method:
    """LongLLMLingua."""
    from compressor.evaluation.methods.longllmlingua import LongLLMLingua

    known_options(spec, "model")
    return LongLLMLingua(causal_of(spec, setup), setup.counter)


def open_llmlingua2(spec: MethodSpec, setup: Setup) -> Method:
    """LLMLingua-2's algorithm on the weights of a folder."""
    from compressor.compat.model import LLMLinguaModel
    from compressor.evaluation.methods.llmlingua2 import LLMLingua2

    known_options(spec, "model", "force")
    folder = spec.options.get("model", setup.model)
    force = spec.options.get("force", "").replace("\\n", "\n").split("+") if "force" in spec.options else []
    return LLMLingua2(LLMLinguaModel.open(folder, setup.device), setup.counter, force)


def engine_of(spec: MethodSpec, setup: Setup) -> ScoringEngine:
    """The scoring engine of a method, shared by all that name the same model."""
    from compressor.evaluation.methods.ours import shared_engine

    return shared_engine(spec.options.get("model", setup.model), setup.device, setup.remember)


def open_ours(spec: MethodSpec, setup: Setup) -> Method:
    """This compressor."""
    from compressor.evaluation.methods.ours import open_terse

    known_options(spec, "model", "unit", "protect")
    return open_terse(spec.options, setup.counter, engine_of(spec, setup))


def open_sentences(spec: MethodSpec, setup: Setup) -> Method:
    """Whole sentences, ranked by the question alone."""
    from compressor.evaluation.methods.ours import SentenceRanker

    known_options(spec, "model")
    return SentenceRanker(engine_of(spec, setup), setup.counter)


def open_recovery(spec: MethodSpec, setup: Setup) -> Recovery | None:
    """What mends the reader's answers over this method's texts; None for all methods but LongLLMLingua."""
    if spec.name != "longllmlingua":
        return None
    from compressor.evaluation.recovery import Recovery

    return Recovery.open(spec.options.get("model", setup.causal))


OPENERS: Mapping[str, Callable[[MethodSpec, Setup], Method]] = {
    "full": open_fixed,
    "empty": open_fixed,
    "first": open_plain,
    "random": open_plain,
    "terse": open_ours,
    "sentences": open_sentences,
    "llmlingua2": open_llmlingua2,
    "llmlingua": open_llmlingua,
    "longllmlingua": open_longllmlingua,
    "selective-context": open_selective,
}
