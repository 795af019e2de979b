"""BERTScore's greedy matching (Zhang et al. 2020) over any encoder's last hidden states.

No IDF weights and no baseline rescaling, and the encoder is whatever folder it is given: figures compare
methods within one report, not with published BERTScore values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compressor.model.compact import is_compact
from compressor.model.loading import find_folder

WINDOW = 512  # tokens; the rest of a longer text is not compared


class EncoderSimilarity:
    """Compares texts by their contextual token vectors."""

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        found = find_folder(str(folder))
        if is_compact(found):
            from compressor.compat.unpacked import read_unpacked

            classifier, self._tokenizer = read_unpacked(found)
            model: Any = classifier.base_model
        else:
            from transformers import AutoModel, AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(str(found), trust_remote_code=False)
            model = AutoModel.from_pretrained(str(found), trust_remote_code=False)
        self._model: Any = model.to(device).eval().float()
        self._device = device

    def vectors(self, text: str) -> Any:
        """Unit vectors of the text's tokens, special tokens left out, shape [tokens, hidden]."""
        import torch

        encoded = self._tokenizer(text, truncation=True, max_length=WINDOW, return_tensors="pt")
        special = [int(i) in set(self._tokenizer.all_special_ids) for i in encoded["input_ids"][0].tolist()]
        with torch.inference_mode():
            hidden = self._model(**encoded.to(self._device)).last_hidden_state[0]
        return torch.nn.functional.normalize(hidden[~torch.tensor(special, device=hidden.device)], dim=-1)

    def f1(self, text: str, references: Sequence[str]) -> float:
        """The best greedy-match F1 against any reference; 0 for an empty text."""
        said = self.vectors(text)
        best = 0.0
        for reference in references:
            wanted = self.vectors(reference)
            if not len(said) or not len(wanted):
                continue
            cosine = said @ wanted.T
            precision = float(cosine.max(dim=1).values.mean())
            recall = float(cosine.max(dim=0).values.mean())
            best = max(best, 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0)
        return best
