"""A tiny encoder with a tokenizer of its own, and a made-up corpus that can be learnt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import torch

TOWNS = ("Aldorf", "Brunnau", "Celtis", "Dornwald", "Erlbach", "Falkenau", "Grimmen", "Hallstatt")
FOUNDERS = ("Mara Venn", "Otto Silber", "Ida Kranz", "Paul Reiter")


def town_text(number: int) -> str:
    town, founder = TOWNS[number % len(TOWNS)], FOUNDERS[number % len(FOUNDERS)]
    return (
        f"The old town of {town} lies quietly by the river, as many other towns do in that region. "
        f"It was, so people say, founded in {1200 + number} by {founder}. "
        "Visitors often come there because the weather is usually rather pleasant in summer."
    )


def questions(count: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number in range(count):
        origin = {"doc": f"town-{number}", "source": "towns", "lang": "en", "lic": "CC-BY-4.0"}
        context, town = town_text(number), TOWNS[number % len(TOWNS)]
        founder = FOUNDERS[number % len(FOUNDERS)]
        for kind, question, answer in (
            ("when", f"When was {town} founded?", str(1200 + number)),
            ("who", f"Who founded {town}?", founder),
        ):
            rows.append(
                origin
                | {"id": f"{number}-{kind}", "context": context, "question": question, "answers": [answer]}
            )
    return rows


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that spin for one another make models this small a hundred times slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of three layers, 64 wide, random, with a Unigram tokenizer trained on the made-up corpus."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel

    from compressor.training.base import SPECIAL, tokenizer_config

    folder = tmp_path_factory.mktemp("tiny-base")
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    texts = [town_text(number) for number in range(64)] + ["query: passage: Who founded When was ?"]
    trainer = trainers.UnigramTrainer(
        vocab_size=320, special_tokens=list(SPECIAL), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=512,
        pad_token_id=1,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps(tokenizer_config()))
    return folder
