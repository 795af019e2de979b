"""Any token classifier as a scorer: finds the folder, checks it, picks the runtime."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compressor.config import CompressorConfig
from compressor.engine.engine import EngineLimits, Ranking
from compressor.engine.scorer import Scorer
from compressor.engine.tokenizing import TextTokenizer
from compressor.engine.windows import WindowShape
from compressor.errors import ModelLoadFailed
from compressor.model.compact import TOKENIZER_FILE, WEIGHTS_FILE, is_compact, read_compact, read_tokenizer
from compressor.model.description import ModelDescription, describe_model, fingerprint_files
from compressor.model.weights import EncoderWeights, is_bert_shaped, read_weights

DEFAULT_FOLDER = Path(__file__).parent.parent / "weights" / "default"
_NEEDS_TORCH = "needs torch and transformers: pip install 'terse-gateway[torch]'"

_VOCABULARIES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")

# GPU: 32,768 tokens fill an H200's multiprocessors within 1 GiB of activations at XLM-R-large's width.
# CPU: short batches, so that a cancelled text frees the cores within half a second.
_BATCH_TOKENS = {"cuda": 32_768, "cpu": 2_048}
# About 5 s of work on either: what cannot start before any deadline is better refused.
_WAITING_TOKENS = {"cuda": 4_000_000, "cpu": 60_000}


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """All that an engine is made of."""

    scorer: Scorer
    tokenizer: TextTokenizer
    shape: WindowShape
    limits: EngineLimits
    ranking: Ranking


def open_model(config: CompressorConfig) -> OpenedModel:
    """Loads the model that the configuration names. Raises ModelLoadFailed, with what to do about it."""
    folder = find_folder(config.model)
    device = choose_device(config.device)
    model = describe_model(folder)
    window = config.window_tokens or model.window_tokens
    if window > model.max_tokens:
        raise ModelLoadFailed(
            f"{folder}: windows of {window} tokens; the encoder has {model.max_tokens} positions"
        )
    tokenizer = load_tokenizer(model)
    shape = WindowShape(window, model.margin(window), tokenizer.prefix, tokenizer.suffix)
    kind = device.partition(":")[0]
    limits = EngineLimits(
        max_batch_tokens=max(config.max_batch_tokens or _BATCH_TOKENS[kind], window),
        max_waiting_tokens=config.max_waiting_tokens or _WAITING_TOKENS[kind],
    )
    scorer = _open_scorer(model, device, config, (window, shape.margin), limits.max_batch_tokens)
    return OpenedModel(scorer, tokenizer, shape, limits, model.ranking)


def find_folder(name: str) -> Path:
    """The folder of "default", of a path, or of a Hugging Face name that was downloaded before."""
    if name == "default":
        if not (DEFAULT_FOLDER / "config.json").is_file():
            raise ModelLoadFailed(
                "this installation carries no embedded encoder; name a folder or a hub model"
            )
        return DEFAULT_FOLDER
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelLoadFailed(f"{name}: no such folder")
    if find_spec("huggingface_hub") is None:
        raise ModelLoadFailed(f"{name}: no such folder; a hub model {_NEEDS_TORCH}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        raise ModelLoadFailed(
            f"{name}: neither a folder nor a downloaded hub model; nothing is fetched at run time, "
            f"so run `hf download {name}` first"
        ) from None


def choose_device(wish: str) -> str:
    """`cpu` or `cuda:N`. Imports torch only where there is a GPU to be asked for."""
    if wish == "cpu":
        return "cpu"
    if wish != "auto" and wish.partition(":")[0] != "cuda":
        raise ModelLoadFailed(f"device {wish!r}: known are auto, cpu, cuda and cuda:N")
    has_driver = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
    if wish == "auto" and (not has_driver or find_spec("torch") is None):
        return "cpu"
    _require_torch(wish)
    import torch

    if not torch.cuda.is_available():
        if wish == "auto":
            return "cpu"
        raise ModelLoadFailed(f"device {wish!r}: torch sees no CUDA device")
    index = int(wish.partition(":")[2] or torch.cuda.current_device()) if wish != "auto" else 0
    if index >= torch.cuda.device_count():
        raise ModelLoadFailed(f"device {wish!r}: there are {torch.cuda.device_count()} GPUs")
    return f"cuda:{index}"


def count_gpus() -> int:
    """How many GPUs torch sees; 0 without torch."""
    if find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count()


def load_tokenizer(model: ModelDescription) -> TextTokenizer:
    """The folder's fast tokenizer. Raises ModelLoadFailed when it has none, or one of another model."""
    tokenizer = _fast_tokenizer(model)
    known, rows = tokenizer.get_vocab_size(), int(model.config.get("vocab_size") or 0)
    if known > rows:
        raise ModelLoadFailed(
            f"{model.folder}: the tokenizer has more tokens than the encoder: {known}, {rows}"
        )
    return TextTokenizer(tokenizer)


def _fast_tokenizer(model: ModelDescription) -> Any:
    """A `tokenizers.Tokenizer`."""
    path = model.folder / "tokenizer.json"
    if is_compact(model.folder) or path.is_file():
        from tokenizers import Tokenizer

        try:
            if is_compact(model.folder):
                return Tokenizer.from_str(read_tokenizer(model.folder))
            return Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001 - the Rust side raises plain Exception
            raise ModelLoadFailed(f"{path}: {error}") from None
    if (model.folder / TOKENIZER_FILE).is_file():  # a compact encoder without its weights
        raise ModelLoadFailed(f"{model.folder / WEIGHTS_FILE}: no such file")
    if not any((model.folder / name).is_file() for name in _VOCABULARIES):
        raise ModelLoadFailed(
            f"{model.folder}: no tokenizer there"
        )  # transformers would make up an empty one
    _require_torch(str(model.folder))
    from transformers import AutoTokenizer

    try:
        found: Any = AutoTokenizer.from_pretrained(model.folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelLoadFailed(f"{model.folder}: no tokenizer can be loaded: {error}") from None
    if not getattr(found, "is_fast", False):
        raise ModelLoadFailed(f"{model.folder}: no fast tokenizer, so words cannot be found in the text")
    return found.backend_tokenizer


def _open_scorer(
    model: ModelDescription,
    device: str,
    config: CompressorConfig,
    windowing: tuple[int, int],
    batch_tokens: int,
) -> Scorer:
    if _reads_without_torch(model):
        if device == "cpu" and find_spec("openvino") is not None:
            return _open_openvino(model, config, windowing)
        if device != "cpu" and config.precision != "int8":
            return _open_packed(model, device, config.precision, windowing, batch_tokens)
    _require_torch(str(model.folder))
    from compressor.model.transformers_scorer import load_transformers_scorer

    fingerprint = fingerprint_files(model.folder, "transformers", device.partition(":")[0], windowing)
    return load_transformers_scorer(model, device, config, fingerprint)


def _open_openvino(model: ModelDescription, config: CompressorConfig, windowing: tuple[int, int]) -> Scorer:
    from compressor.model.openvino_scorer import OpenVinoScorer, choose_precision

    return OpenVinoScorer(
        _read(model),
        keep_label=model.keep_label,
        precision=choose_precision(config.precision),
        fingerprint=fingerprint_files(model.folder, "openvino 2", windowing),
        threads=config.threads,
    )


def _open_packed(
    model: ModelDescription, device: str, precision: str, windowing: tuple[int, int], batch_tokens: int
) -> Scorer:
    import torch

    from compressor.model.packed import PackedEncoder
    from compressor.model.packed_scorer import PackedScorer

    fp8 = precision == "fp8"
    if fp8 and torch.cuda.get_device_capability(device) < (8, 9):
        raise ModelLoadFailed(f"{device}: no float8 on {torch.cuda.get_device_name(device)}")
    dtype = {"fp32": torch.float32, "fp16": torch.float16}.get(precision, torch.bfloat16)
    with torch.cuda.device(device):
        encoder = PackedEncoder(_read(model), device, dtype, fp8=fp8)
    named = precision.replace("auto", "bf16")
    return PackedScorer(
        encoder,
        keep_label=model.keep_label,
        device=device,
        fingerprint=fingerprint_files(model.folder, "packed 2", named, windowing),
        # Attention in fp32 goes window by window, as many as there are: nothing that could be captured.
        graph_tokens=0 if precision == "fp32" else batch_tokens,
        longest=windowing[0],
    )


def _read(model: ModelDescription) -> EncoderWeights:
    return read_compact(model) if is_compact(model.folder) else read_weights(model)


def _reads_without_torch(model: ModelDescription) -> bool:
    if not is_bert_shaped(model):
        return False
    return is_compact(model.folder) or (model.folder / "model.safetensors").is_file()


def _require_torch(what: str) -> None:
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise ModelLoadFailed(f"{what}: {_NEEDS_TORCH}")
