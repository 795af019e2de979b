"""What the conversations with one model have shown: how often they go on, and what is cached of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson

# Before a model's conversations have shown how long they are: as if so many had gone on for so many turns.
# Traffic of single requests is known for that after a dozen; chats of three turns are never taken for it.
_PRIOR_BEGUN, _PRIOR_FURTHER = 8.0, 16.0
_REMEMBERED = 500.0  # conversations; then older ones count half
# One reading may be a miss of the upstream's routing: so many are waited for. The newest counts an eighth.
_ENOUGH_READINGS, _MOST_READINGS = 4, 8


@dataclass(frozen=True, slots=True)
class Habits:
    """Of all conversations of a team with one model."""

    begun: float = 0.0  # conversations
    further: float = 0.0  # requests of theirs after the first
    readings: int = 0  # of how much of a warm prefix came from the cache; counted up to _MOST_READINGS
    mean_read: float = 0.0

    @property
    def read(self) -> float | None:
        """The share of a warm prefix that the upstream reads from its cache; None: not known."""
        return self.mean_read if self.readings >= _ENOUGH_READINGS else None

    @property
    def turns_ahead(self) -> float:
        """How many more requests follow the first one, in the mean."""
        return (_PRIOR_FURTHER + self.further) / (_PRIOR_BEGUN + self.begun)

    def after(self, *, begins: bool, read: float | None) -> Habits:
        """With one more request, and what was read from the cache if that could be told."""
        half = 0.5 if self.begun >= _REMEMBERED else 1.0
        counted = replace(self, begun=self.begun * half + begins, further=self.further * half + (not begins))
        if read is None:
            return counted
        readings = min(self.readings + 1, _MOST_READINGS)
        mean = self.mean_read + (read - self.mean_read) / readings
        return replace(counted, readings=readings, mean_read=round(mean, 4))

    def encode(self) -> bytes:
        """Compact JSON."""
        return orjson.dumps([self.begun, self.further, self.readings, self.mean_read])


NO_HABITS = Habits()


def decode_habits(data: bytes | None) -> Habits:
    """What was stored; nothing known of what cannot be read."""
    if not data:
        return NO_HABITS
    try:
        begun, further, readings, read = orjson.loads(data)
        return Habits(max(0.0, float(begun)), max(0.0, float(further)), int(readings), float(read))
    except (ValueError, TypeError):
        return NO_HABITS
