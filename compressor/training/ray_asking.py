"""Ask a teacher from many machines or GPUs at once, by Ray Data. Needs `terse-gateway[train,ray]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from compressor.errors import InvalidOption
from compressor.training.instructions import Message
from compressor.training.teacher import Reply, Teacher


@dataclass(frozen=True, slots=True)
class RayAsking:
    """Asks by `workers` processes, each with a teacher of its own that `open_teacher` (picklable) makes.

    Replies come in whatever order they are ready. A cluster is joined when RAY_ADDRESS names one, else Ray
    is started on this machine. `gpus` is what one worker takes.
    """

    open_teacher: Callable[[], Teacher]
    workers: int = 2
    gpus: float = 0.0

    def __call__(self, teacher: Teacher, prompts: Sequence[list[Message]]) -> Iterator[tuple[int, Reply]]:
        """Place and reply of each prompt. Raises InvalidOption where Ray Data is not installed."""
        try:
            import ray.data
        except ImportError as error:
            raise InvalidOption(f"asking by Ray needs terse-gateway[ray]: {error}") from None
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = [{"at": at, "prompt": orjson.dumps(prompt)} for at, prompt in enumerate(prompts)]
        replies = ray.data.from_items(
            rows, override_num_blocks=max(1, len(rows) // teacher.at_once)
        ).map_batches(
            _Asker,
            fn_constructor_args=(self.open_teacher,),
            batch_size=teacher.at_once,
            compute=ray.data.ActorPoolStrategy(size=self.workers),
            num_gpus=self.gpus or None,
        )
        for row in replies.iter_rows():
            yield int(row["at"]), Reply(**orjson.loads(row["reply"]))


class _Asker:
    """One worker: holds its teacher from batch to batch."""

    def __init__(self, open_teacher: Callable[[], Teacher]) -> None:
        self._teacher = open_teacher()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        prompts = [orjson.loads(prompt) for prompt in batch["prompt"]]
        replies = self._teacher.replies(prompts)
        return {"at": batch["at"], "reply": [orjson.dumps(asdict(reply)) for reply in replies]}
