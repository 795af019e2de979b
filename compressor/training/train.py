"""Train the encoder: soft keep labels, the budget, a larger encoder's scores, and questions, together.

Runs on one device, or on several when started by torchrun. A run that was cut short goes on from its last
epoch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from compressor.errors import InvalidOption
from compressor.training.answer_kept import KeptMeasure, mean_kept
from compressor.training.dataset import Batch, Window, bucket, collate, windows
from compressor.training.encoder import Encoder
from compressor.training.losses import budget_loss, imitation_loss, label_loss, rank_loss
from compressor.training.material import Choice, Material, read_material


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train.

    `data` are labelled files, each with the share of its windows to use in an epoch (above 1: several times);
    `questions` are question-and-answer files.
    """

    base: Path
    out: Path
    data: tuple[tuple[Path, float], ...]
    questions: tuple[Path, ...] = ()
    teacher: Path | None = None  # a trained, larger encoder with the same tokenizer
    epochs: int = 8
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    warm_up: float = 0.06  # share of all steps
    batch_tokens: int = 16_384
    window_sizes: tuple[int, ...] = (128, 256, 512)  # drawn for each text and epoch
    held_back: float = 0.2  # share of the documents, never trained on
    patience: int = 3  # epochs without a better held-back figure
    seed: int = 7
    label_share: float = 1.0  # of the loss; likewise the next three
    budget_share: float = 0.0
    imitation_share: float = 1.0  # only with a teacher
    rank_share: float = 0.2  # only with questions
    rank_batch: int = 24  # questions a step
    freeze_embeddings: bool = True
    any_licence: bool = False  # also train on what may not be given away
    device: str = "auto"

    @property
    def choice(self) -> Choice:
        """What is read: options that agree in it can share one Material."""
        return Choice(tuple(path for path, _ in self.data), self.questions, self.held_back, self.any_licence)


@dataclass(slots=True)
class _Progress:
    """What a resumed run needs beside weights."""

    epoch: int = 0
    best: float = -math.inf
    since_best: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _World:
    rank: int
    size: int
    device: torch.device


class _Trainee(nn.Module):
    """One forward pass gives the whole loss, as DistributedDataParallel wants it."""

    def __init__(self, encoder: Encoder, teacher: Encoder | None, options: TrainOptions) -> None:
        super().__init__()
        self.encoder = encoder
        self._teacher = [teacher]  # in a list: no part of the parameters
        self.options = options

    def forward(
        self, batch: Batch, ranked: tuple[torch.Tensor, torch.Tensor, int] | None
    ) -> dict[str, torch.Tensor]:
        score, _ = self.encoder(batch.ids, batch.mask)
        parts = {"label": self.options.label_share * label_loss(score, batch.keep)}
        if self.options.budget_share:
            parts["budget"] = self.options.budget_share * budget_loss(score, batch.keep, batch.group)
        teacher = self._teacher[0]
        if teacher is not None:
            with torch.no_grad():
                wanted, _ = teacher(batch.ids, batch.mask)
            parts["imitation"] = self.options.imitation_share * imitation_loss(score, wanted, batch.mask)
        if ranked is not None:
            ids, mask, questions = ranked
            _, pooled = self.encoder(ids, mask)
            parts["rank"] = self.options.rank_share * rank_loss(pooled[:questions], pooled[questions:])
        return parts


def train(options: TrainOptions, console: Console, material: Material | None = None) -> dict[str, Any]:
    """Trains and writes the best weights to `options.out`; returns the notes that go beside them.

    `material` is what `read_material` gave for the options' choice and the base's tokenizer; read here
    where there is none.

    Raises InvalidRecord for a broken line, InvalidOption when nothing is left to train on, ModelLoadFailed.
    """
    world = _join(options.device)
    torch.manual_seed(options.seed)
    encoder = Encoder(options.base).to(world.device)
    if options.freeze_embeddings:
        encoder.freeze_embeddings()
    teacher = Encoder(options.teacher).to(world.device).eval() if options.teacher else None
    if material is None:
        material = read_material(options.choice, encoder.tokenizer, options.seed)
    texts, refused = material.texts, material.refused
    if not texts:
        raise InvalidOption(f"nothing to train on; refused for their licence: {refused}")
    tokens = sum(len(text.ids) for text in texts)
    console.print(f"{len(texts)} texts, {tokens:,} tokens, {len(material.ranked)} questions to rank")
    if refused:
        console.print(f"left out for their licence: {refused}")
    trainee = _Trainee(encoder, teacher, options)
    model: nn.Module = DistributedDataParallel(trainee) if world.size > 1 else trainee
    run = _Run(options, world, model, encoder, material, console)
    notes = run.go() | {"refused": refused, "texts": len(texts), "options": asdict(options)}
    if world.rank == 0:
        encoder.save(options.out, notes)
        (options.out / "checkpoint.pt").unlink(missing_ok=True)
    return notes


def device_named(name: str) -> torch.device:
    """The device that "auto", "cpu", "cuda" or "cuda:1" means here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _join(device: str) -> _World:
    """This process's place among those that torchrun started; alone otherwise."""
    if not distributed.is_torchelastic_launched():
        return _World(0, 1, device_named(device))
    cuda = device_named(device).type == "cuda"
    distributed.init_process_group("nccl" if cuda else "gloo")
    local = distributed.get_node_local_rank()
    if cuda:
        torch.cuda.set_device(local)
    return _World(
        distributed.get_rank(),
        distributed.get_world_size(),
        torch.device("cuda", local) if cuda else torch.device("cpu"),
    )


class _Run:
    """The loop over epochs, with its optimiser, its schedule and its place."""

    def __init__(
        self,
        options: TrainOptions,
        world: _World,
        model: nn.Module,
        encoder: Encoder,
        material: Material,
        console: Console,
    ) -> None:
        self.options, self.world, self.encoder, self.model = options, world, encoder, model
        self.texts, self.ranked = material.texts, material.ranked
        self.measure = KeptMeasure(encoder, material.measured) if material.measured else None
        self.console = console
        self.state = _Progress()
        self.weights = [weight for _, weight in options.data]
        parameters = [p for p in encoder.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.ndim > 1]
        vectors = [p for p in parameters if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": options.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=world.device.type == "cuda"
        )
        self.best = _trained(encoder)

    def go(self) -> dict[str, Any]:
        """Trains until the last epoch or until patience runs out, and puts the best weights back."""
        self._resume()
        steps = len(self._batches(0))  # of the first epoch; later ones differ by a few
        with Progress(console=self.console, disable=self.world.rank != 0) as bar:
            task = bar.add_task(
                "training", total=steps * self.options.epochs, completed=steps * self.state.epoch
            )
            while self.state.epoch < self.options.epochs and self.state.since_best < self.options.patience:
                losses = self._epoch(steps, lambda: bar.advance(task))
                self._judge(losses)
        self.encoder.load_state_dict(self.best, strict=False)
        return {"history": self.state.history, "best": self.state.best, "steps_an_epoch": steps}

    def _batches(self, epoch: int) -> list[list[Window]]:
        random = np.random.default_rng((self.options.seed, epoch))
        sizes = random.choice(self.options.window_sizes, len(self.texts))
        cut = (
            window
            for text, size in zip(self.texts, sizes, strict=True)
            for window in windows(text, int(size))
        )
        found = [
            window for window in cut for _ in range(int(self.weights[window.labels.source] + random.random()))
        ]
        batches = bucket([len(window) for window in found], self.options.batch_tokens, random)
        usable = len(batches) // self.world.size * self.world.size or len(batches)
        mine = batches[self.world.rank : usable : self.world.size] or batches
        return [[found[at] for at in batch] for batch in mine]

    def _epoch(self, steps: int, advance: Any) -> dict[str, float]:
        self.model.train()
        device = self.world.device
        random = np.random.default_rng((self.options.seed, self.state.epoch, self.world.rank))
        sums: Counter[str] = Counter()
        batches = self._batches(self.state.epoch)
        for at, chosen in enumerate(batches):
            self._schedule(self.state.epoch * steps + at, steps * self.options.epochs)
            batch = collate(chosen, self.encoder.special).to(device)
            with torch.autocast(device.type, torch.bfloat16, device.type == "cuda"):
                parts = self.model(batch, self._rank_batch(random))
            loss = torch.stack(list(parts.values())).sum()
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
            self.optimiser.step()
            if at % 10 == 0:  # reading a loss waits for the device
                sums.update({name: float(value.detach()) for name, value in parts.items()} | {"read": 1})
            advance()
        return {name: value / sums["read"] for name, value in sums.items() if name != "read"}

    def _schedule(self, step: int, total: int) -> None:
        """Linear warm-up, then a half cosine to zero."""
        warm = max(1, round(self.options.warm_up * total))
        share = (
            (step + 1) / warm
            if step < warm
            else (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm)))) / 2
        )
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.learning_rate * share

    def _rank_batch(self, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, int] | None:
        """Ids and mask of questions, then of their passages, and how many questions there are."""
        if not self.ranked or not self.options.rank_share:
            return None
        count = min(self.options.rank_batch, len(self.ranked))
        chosen = [self.ranked[at] for at in random.choice(len(self.ranked), count, replace=False)]
        rows = [one.question for one in chosen] + [ids for one in chosen for ids in one.passages]
        ids, mask = _padded(rows, self.encoder)
        device = self.world.device
        return ids.to(device, non_blocking=True), mask.to(device, non_blocking=True), count

    def _judge(self, losses: dict[str, float]) -> None:
        """Measures on the held-back part, remembers the best weights, and writes a checkpoint."""
        self.model.eval()
        kept = self.measure.of(self.encoder, self.world.device) if self.measure else {}
        figure = mean_kept(kept) if kept else -sum(losses.values())
        self.state.history.append(
            {"epoch": self.state.epoch, "losses": losses, "answer_kept": kept, "figure": figure}
        )
        self.state.epoch += 1
        self.state.since_best += 1
        if figure > self.state.best:
            self.state.best, self.state.since_best = figure, 0
            self.best = _trained(self.encoder)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self.console.print(f"epoch {self.state.epoch}: {shown}; held-back figure {figure:.4f}")
        if self.world.rank == 0:
            self._save()

    def _save(self) -> None:
        self.options.out.mkdir(parents=True, exist_ok=True)
        part = self.options.out / "checkpoint.part"
        now = {"weights": _trained(self.encoder), "best": self.best, "optimiser": self.optimiser.state_dict()}
        torch.save(now | {"state": asdict(self.state), "seed": self.options.seed}, part)
        part.replace(self.options.out / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.options.out / "checkpoint.pt"
        if not path.exists():
            return
        found = torch.load(path, map_location=self.world.device, weights_only=True)
        self.encoder.load_state_dict(found["weights"], strict=False)
        self.best = found["best"]
        self.optimiser.load_state_dict(found["optimiser"])
        self.state = _Progress(**found["state"])
        self.console.print(f"going on behind epoch {self.state.epoch} of {path}")


def _trained(encoder: Encoder) -> dict[str, torch.Tensor]:
    """A copy of the parameters that training changes."""
    return {name: p.detach().clone() for name, p in encoder.named_parameters() if p.requires_grad}


def _padded(rows: Sequence[Sequence[int]], encoder: Encoder) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of rows framed by the special tokens, each [rows, longest]."""
    longest = max(len(row) for row in rows) + 2
    ids = np.full((len(rows), longest), encoder.special.pad, np.int64)
    mask = np.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row) + 2] = [encoder.special.first, *row, encoder.special.last]
        mask[at, : len(row) + 2] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
