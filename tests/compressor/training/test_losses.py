from __future__ import annotations

import math

import pytest
import torch

from compressor.training.losses import budget_loss, imitation_loss, label_loss, rank_loss


def test_unknown_tokens_are_outside_the_label_loss() -> None:
    score = torch.tensor([[0.0, 9.0, -9.0]])
    keep = torch.tensor([[1.0, -1.0, -1.0]])
    assert label_loss(score, keep).item() == pytest.approx(math.log(2))


def test_soft_labels_are_best_met_exactly() -> None:
    keep = torch.tensor([[0.7, 0.7]])
    exact = label_loss(torch.full((1, 2), math.log(0.7 / 0.3)), keep)
    assert exact < label_loss(torch.full((1, 2), 3.0), keep)


def test_the_budget_loss_goes_by_the_weakest_token_of_an_answer() -> None:
    torch.manual_seed(0)
    keep = torch.zeros(1, 10)
    group = torch.full((1, 10), -1)
    group[0, 2:4] = 5
    background = torch.zeros(1, 10)
    one, both = background.clone(), background.clone()
    one[0, 2] = 8.0
    both[0, 2:4] = 8.0
    weak = sum(budget_loss(one, keep, group).item() for _ in range(20))
    strong = sum(budget_loss(both, keep, group).item() for _ in range(20))
    assert strong < 0.2 * weak


def test_no_answer_gives_no_budget_loss_and_a_gradient_of_zero() -> None:
    score = torch.zeros(2, 4, requires_grad=True)
    loss = budget_loss(score, torch.zeros(2, 4), torch.full((2, 4), -1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert score.grad is not None
    assert score.grad.abs().sum().item() == 0


def test_imitation_ignores_padding() -> None:
    score, teacher = torch.tensor([[1.0, 5.0]]), torch.tensor([[1.0, -5.0]])
    alike = imitation_loss(score, teacher, torch.tensor([[1, 0]]))
    assert alike < imitation_loss(score, teacher, torch.tensor([[1, 1]]))


def test_ranking_prefers_the_right_passage_of_each_question() -> None:
    questions = torch.eye(2, 4)
    right = torch.stack([questions[0], torch.eye(4)[2], questions[1], torch.eye(4)[3]])
    wrong = right[[1, 0, 3, 2]]
    assert rank_loss(questions, right) < 0.01 < rank_loss(questions, wrong)
