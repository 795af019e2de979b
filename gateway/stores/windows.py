"""Windows of time: where a period starts and ends, and sums over the last so many seconds. Plain arithmetic.

`windows.lua` says the same inside Redis; `tests/with_redis` holds the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from policies.shapes import Period

# A sliding window is counted in 60 slices: a second for a minute's rate, 12 hours for a month. A finer grain
# costs memory per key and changes no decision by more than 1/60 of the window.
SLICES: Final = 60
DAY: Final = 86_400
LENGTH: Final[dict[str, int]] = {
    "minute": 60,
    "hour": 3_600,
    "day": DAY,
    "week": 7 * DAY,
    "month": 30 * DAY,
}
NEVER: Final = 10 * 366 * DAY  # seconds to wait for a budget that never starts anew


def calendar_window(period: Period, now: int) -> tuple[int, int]:
    """The number of the calendar window (UTC) that holds `now` (Unix seconds), and the second it ends.

    Weeks start on Monday. Numbers rise by one from window to window.
    """
    if period == "total":
        return 0, now + NEVER
    if period == "month":
        months = _months(now // DAY)
        return months, _first_day(months + 1) * DAY
    if period == "week":
        week = (now // DAY + 3) // 7  # 1970-01-01 was a Thursday
        return week, ((week + 1) * 7 - 3) * DAY
    length = LENGTH[period]
    return now // length, (now // length + 1) * length


def _months(day: int) -> int:
    """Months since year 0 of a day since 1970 (Hinnant, "chrono-compatible low-level date algorithms")."""
    shifted = day + 719_468
    era, of_era = divmod(shifted, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    march_based = (5 * of_year + 2) // 153
    return (year + era * 400) * 12 + march_based + 2  # march is month 2, counted from zero


def _first_day(months: int) -> int:
    """Day since 1970 on which the month begins that is so many months after year 0."""
    year, march_based = divmod(months - 2, 12)
    era, of_era = divmod(year, 400)
    of_year = (153 * march_based + 2) // 5
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@dataclass(slots=True)
class SlidingWindow:
    """Two sums over the last `length` seconds, in slices; the oldest slice counts whole until it has left.

    Slices further ahead of the clock than one window are dropped: a clock that jumped ahead and came back
    must not block a team for as long as the jump was.
    """

    length: int  # seconds
    slices: dict[int, list[int]] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Seconds a slice."""
        return max(1, self.length // SLICES)

    def slice_of(self, now: int) -> int:
        """The slice that holds `now`."""
        return now // self.step

    def add(self, slice_number: int, first: int, second: int, now: int) -> None:
        """Adds to both sums, unless that slice has left the window already."""
        if slice_number <= self.slice_of(now) - SLICES:
            return
        entry = self.slices.setdefault(slice_number, [0, 0])
        entry[0] += first
        entry[1] += second

    def sums(self, now: int) -> tuple[int, int]:
        """Both sums; forgets what has left the window."""
        current = self.slice_of(now)
        for number in [n for n in self.slices if n <= current - SLICES or n > current + SLICES]:
            del self.slices[number]
        # A correction whose slice was dropped in such a jump must not make a sum negative.
        return (
            max(0, sum(entry[0] for entry in self.slices.values())),
            max(0, sum(entry[1] for entry in self.slices.values())),
        )

    def wait_until_free(self, which: int, amount: int, now: int) -> int:
        """Seconds until slices worth `amount` of sum `which` (0 or 1) have left the window; at least 1."""
        freed = 0
        for number in sorted(self.slices):
            freed += self.slices[number][which]
            if freed >= amount:
                return max(1, (number + SLICES) * self.step - now)
        return self.length

    def empty_in(self, which: int, now: int) -> int:
        """Seconds until sum `which` is zero."""
        used = [number for number, entry in self.slices.items() if entry[which] > 0]
        return max(0, (max(used) + SLICES) * self.step - now) if used else 0
