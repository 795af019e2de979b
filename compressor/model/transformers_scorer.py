"""Any token classifier through transformers' own forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.config import CompressorConfig
from compressor.engine.scorer import OutOfDeviceMemory, Running, Scored, Task, Window, pool_words
from compressor.errors import ModelLoadFailed
from compressor.model.description import ModelDescription

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_classifier(model: ModelDescription, dtype: torch.dtype) -> Any:
    """The token classifier, weights complete. Raises ModelLoadFailed; never runs code of the folder."""
    from transformers import AutoModelForTokenClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what matters of the loading report is raised below

    try:
        network, info = AutoModelForTokenClassification.from_pretrained(
            model.folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **({"attention_type": "original_full"} if model.family == "big_bird" else {}),
        )
    except Exception as error:
        raise ModelLoadFailed(f"{model.folder}: {error}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelLoadFailed(f"{model.folder}: weights are missing: {', '.join(missing[:3])}")
    return network.eval()


def load_transformers_scorer(
    model: ModelDescription, device: str, config: CompressorConfig, fingerprint: str
) -> TransformersScorer:
    """Opens the model on the device, in bf16 on a GPU and fp32 on a CPU unless told otherwise."""
    precision = config.precision
    if precision == "auto":
        precision = "fp32" if device == "cpu" else "bf16"
    if precision not in _DTYPES:
        raise ModelLoadFailed(f"{model.folder}: {precision} does not work for {model.family} on {device}")
    if device == "cpu" and config.threads:
        torch.set_num_threads(config.threads)
    network = load_classifier(model, _DTYPES[precision]).to(device)
    return TransformersScorer(network, model, device, f"{fingerprint}-{precision}")


class TransformersScorer:
    """Windows alone on a CPU (no padding, so batch and single results agree); padded groups on a GPU."""

    def __init__(self, network: Any, model: ModelDescription, device: str, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.device = device
        self._network = network
        self._keep = model.keep_label
        self._labels = model.labels
        self._pad = int(network.config.pad_token_id or 0)

    def launch(self, windows: Sequence[Window], task: Task) -> Running:
        """Runs the whole batch."""
        groups = [[index] for index in range(len(windows))]
        if self.device != "cpu":
            groups = _groups_by_length(windows)
        results: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(windows)
        try:
            with torch.inference_mode():
                for group in groups:
                    for index, row in zip(group, self._run([windows[i] for i in group], task), strict=True):
                        results[index] = row
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise OutOfDeviceMemory from None
        return Finished(windows, results)

    def close(self) -> None:
        """Lets the weights go."""
        del self._network
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def _run(self, windows: Sequence[Window], task: Task) -> list[NDArray[np.float32]]:
        """One padded pass: P(keep) of each token, or one mean-pooled unit vector, a window."""
        lengths = [window.ids.size for window in windows]
        ids = torch.full((len(windows), max(lengths)), self._pad, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : window.ids.size] = torch.from_numpy(window.ids)
            mask[row, : window.ids.size] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        if task == "embed":
            output = self._network(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            states = output.hidden_states[-1].float() * mask[:, :, None]
            means = states.sum(1) / mask.sum(1, keepdim=True)
            return list(torch.nn.functional.normalize(means, dim=1).cpu().numpy())
        logits = self._network(input_ids=ids, attention_mask=mask).logits.float()
        keep = logits.sigmoid() if self._labels == 1 else logits.softmax(-1)
        rows = keep[:, :, self._keep].cpu().numpy()
        return [row[:length] for row, length in zip(rows, lengths, strict=True)]


@dataclass(frozen=True, slots=True)
class Finished:
    """A batch whose per-window results are on the host already."""

    windows: Sequence[Window]
    results: list[NDArray[np.float32]]

    def scores(self) -> Scored:
        """Pooled over words."""
        return pool_words(np.concatenate(self.results), self.windows)

    def embeddings(self) -> NDArray[np.float32]:
        """One unit vector a window."""
        return np.stack(self.results)


def _groups_by_length(windows: Sequence[Window], slack: float = 1.15) -> list[list[int]]:
    """Indices of windows, longest first, in groups whose longest is at most `slack` times the shortest."""
    order = sorted(range(len(windows)), key=lambda index: -windows[index].ids.size)
    groups: list[list[int]] = []
    for index in order:
        if groups and windows[groups[-1][0]].ids.size <= slack * windows[index].ids.size:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
