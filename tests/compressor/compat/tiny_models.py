"""Token classifiers with random weights, and tokenizers trained on the spot, of both families."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForTokenClassification,
)

PROSE = """
the committee budget of project was delayed because never not item review server timeout agreed vote motion
council member report annual total and in to for with without again schedule proposed library street water
passed unanimously public hearing question answer document second reading amendment ordinance funding
"""
WORDS = PROSE.split()
ODDITIES = (
    "3.14", "v1.2.3-rc1", "https://a.example/b_c/d?e=1", "don't", "abc123def", "x9", "1,200.50", "2026-03-14",
    "foo_bar()", "预算委员会同意了第二项提案。", "서울시의회는 예산을 승인했다", 
    "東京都議会は予算を可決した。",
    "😀", "naïve", "２月９日", "(see:", "[NEW0]", "[UNK]", "</s>", "<mask>", "[SEP]", "C++", "50%", "a/b",
    "“quoted”", "e.g.", "ไม่เห็นด้วย", "##x", "▁y", "...", "--", "مجلس", "user@example.org",
)  # fmt: skip


def make_text(rng: random.Random, words: int, odd: float = 0.2) -> str:
    """Prose-like text with numbers, URLs, other scripts, stray special tokens, newlines and tabs."""
    parts: list[str] = []
    for _ in range(words):
        word = rng.choice(ODDITIES) if rng.random() < odd else rng.choice(WORDS)
        parts.append(word + rng.choice(("", "", "", "", ".", ",", "?", "!", ":")))
        parts.append(rng.choices((" ", "\n", "  ", "\t", "\n\n"), (30, 3, 1, 1, 1))[0])
    return "".join(parts).strip()


def corpus() -> list[str]:
    rng = random.Random(7)
    return [make_text(rng, 60, 0.15) for _ in range(200)]


def save_xlmr(folder: Path) -> Path:
    """An XLM-R: Unigram pieces behind `▁`, NFKC, ids 0..3 for <s> <pad> </s> <unk>."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=420, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        unk_token="<unk>", pad_token="<pad>", mask_token="<mask>",
    )  # fmt: skip
    config = XLMRobertaConfig(
        vocab_size=len(fast), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=514, type_vocab_size=1, num_labels=2, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(11)
    return save(folder, XLMRobertaForTokenClassification(config), fast)


def save_mbert(folder: Path) -> Path:
    """A multilingual BERT, cased: WordPiece with `##`, ids 0..4 for [PAD] [UNK] [CLS] [SEP] [MASK]."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        pad_token="[PAD]", mask_token="[MASK]",
    )  # fmt: skip
    config = BertConfig(
        vocab_size=len(fast), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=514, num_labels=2, pad_token_id=0,
        initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(12)
    return save(folder, BertForTokenClassification(config), fast)


def save(folder: Path, model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
