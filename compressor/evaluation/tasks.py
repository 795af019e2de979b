"""What the reader is asked for each kind of task, how long it may answer, and how its answer is judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from compressor.evaluation.datasets import Item
from compressor.evaluation.metrics.answers import exact_match, f1, reasoning_match
from compressor.evaluation.metrics.overlap import bleu, rouge_l, rouge_n

Kind = Literal["answer", "summary", "reasoning"]

# Tokens of a greedy answer. 20 for questions as in the first study; the papers allow 100, 400 and 400.
ANSWER_TOKENS: Mapping[Kind, int] = {"answer": 20, "summary": 200, "reasoning": 320}
ANSWER_PROMPT = """{context}

Answer the question with a short phrase taken from the text above. Give only the answer.
Question: {question}
Answer:"""
BARE_PROMPT = """Answer the question with a short phrase. Give only the answer.
Question: {question}
Answer:"""
SUMMARY_PROMPT = """{context}

{question} Use only the text above and write one paragraph.
Answer:"""
REASONING_PROMPT = """{context}

Question: {question}
Let's think step by step, and end with "The answer is"."""
RESTORE_PROMPT = """The text below was shortened by deleting words. Restore the original as well as you can.
Keep every name, number and identifier exactly as it is, and invent no facts. Write only the restored text.

{context}

Restored text:"""


def kind_of(task: str) -> Kind:
    """`reasoning` for GSM8K and BBH, `summary` for summ and qsumm, else `answer`."""
    if task == "gsm8k" or task.startswith("bbh"):
        return "reasoning"
    return "summary" if task in ("summ", "qsumm") else "answer"


def prompt_for(item: Item, shortened: str) -> str:
    """The reader's prompt over a shortened context; without any context the question alone."""
    kind = kind_of(item.task)
    if kind == "answer" and not shortened.strip():
        return BARE_PROMPT.format(question=item.question)
    template = {"answer": ANSWER_PROMPT, "summary": SUMMARY_PROMPT, "reasoning": REASONING_PROMPT}[kind]
    return template.format(context=shortened, question=item.question).strip()


def restore_prompt(shortened: str) -> str:
    """Asks the reader for the original of a shortened text."""
    return RESTORE_PROMPT.format(context=shortened)


def judge(item: Item, answer: str) -> dict[str, float]:
    """The scores of one answer, 0..1, by name. The first one named is the task's main score."""
    kind = kind_of(item.task)
    if kind == "reasoning":
        return {"em": reasoning_match(answer, item.answers)}
    if kind == "summary":
        return {
            "rouge_l": rouge_l(answer, item.answers),
            "rouge_1": rouge_n(answer, item.answers, 1),
            "rouge_2": rouge_n(answer, item.answers, 2),
            "bleu": bleu(answer, item.answers),
        }
    return {"em": exact_match(answer, item.answers), "f1": f1(answer, item.answers)}
