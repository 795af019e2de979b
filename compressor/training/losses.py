"""What the encoder is trained on: labels, the budget, another model's scores, and questions."""

from __future__ import annotations

import torch
from torch.nn import functional as F

LOWEST_RATE, HIGHEST_RATE = 0.15, 0.6  # budgets that people ask for
SOFTNESS = 0.5  # of the softened minimum over an answer's tokens, in logits
MARGIN = 0.5  # in logits, above the threshold
RANK_TEMPERATURE = 0.05  # of the cosines; e5 was trained at 0.01, too sharp for a few thousand questions


def label_loss(score: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the keep scores (logits, [windows, tokens]) against soft labels, unknown ones left
    out.
    """
    known = (keep >= 0).float()
    each = F.binary_cross_entropy_with_logits(score, keep.clamp(min=0), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def imitation_loss(score: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Cross entropy against the scores of a larger encoder, on every real token."""
    each = F.binary_cross_entropy_with_logits(score, torch.sigmoid(teacher), reduction="none")
    return (each * mask).sum() / mask.sum().clamp(min=1)


def budget_loss(score: torch.Tensor, keep: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """How far the weakest token of each answer falls short of what a budget keeps, [] in logits.

    A budget is drawn for each window; its threshold is the score that this share of the window's tokens
    exceeds.
    An answer is of use only whole, so its (softened) weakest token must pass. The threshold gets a gradient
    too:
    what is just above it is pushed down.
    """
    row, at = (group >= 0).nonzero(as_tuple=True)
    if not len(row):
        return score.sum() * 0
    known = keep >= 0
    rate = torch.empty(len(score), device=score.device).uniform_(LOWEST_RATE, HIGHEST_RATE)
    ordered = score.masked_fill(~known, torch.inf).sort(dim=1).values
    place = ((1 - rate) * known.sum(dim=1)).long().clamp(max=score.shape[1] - 1)
    threshold = ordered.gather(1, place[:, None]).squeeze(1)
    threshold = torch.where(torch.isfinite(threshold), threshold, torch.zeros_like(threshold))
    answer, member = torch.unique(row * (int(group.max()) + 1) + group[row, at], return_inverse=True)
    chosen = score[row, at]
    pulled = torch.exp((-chosen / SOFTNESS).clamp(max=30))
    weakest = -SOFTNESS * torch.log(pulled.new_zeros(len(answer)).index_add(0, member, pulled))
    window = torch.zeros_like(answer).index_put((member,), row)
    return F.softplus(threshold[window] + MARGIN - weakest).mean()


def rank_loss(questions: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    """Contrastive loss: `passages` is [questions × (1 + negatives), width], the right one of each question
    first.

    Every other passage of the batch is wrong for it. Both are normalised here.
    """
    cosine = F.normalize(questions, dim=-1) @ F.normalize(passages, dim=-1).T / RANK_TEMPERATURE
    right = torch.arange(len(questions), device=cosine.device) * (len(passages) // len(questions))
    return F.cross_entropy(cosine, right)
