"""What glibc's allocator is told: it keeps memory that Python has freed, and cleans up at odd moments."""

from __future__ import annotations

import ctypes
import gc

_M_MXFAST, _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = 1, -1, -3, -8  # mallopt(3)
# Each thread gets an arena of its own by default, up to eight a core, and each keeps what its peak needed.
# One is enough where Python's lock is the limit (5 MiB less than two); an encoder's threads run side by side.
_ARENAS, _WITH_ENCODER = 1, 2
# Bytes from which on a block has pages of its own. By default glibc raises this to 32 MiB as such blocks come
# and go; then they grow by being copied under the lock that every thread allocates by (numpy's sort of five
# million words: 5 ms), and what is free at the end of the heap, up to 64 MiB, goes back in one call (4 ms
# under Python's lock). orjson takes twelve times the bytes of a body: with fresh pages each time one of 500
# KB, about the largest that it reads at once, would cost a twelfth more CPU.
_OWN_PAGES, _FREE_AT_END = 8 * 1024 * 1024, 16 * 1024 * 1024


def limit_arenas(*, encoder: bool) -> None:
    """Called before a worker starts threads, with an encoder of its own or without. Nothing happens without
    glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _WITH_ENCODER if encoder else _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES)
        mallopt(_M_TRIM_THRESHOLD, _FREE_AT_END)
        # Small blocks that are freed are put together at once, not some hundred thousand of them in one later
        # call that holds Python's lock for 25 ms.
        mallopt(_M_MXFAST, 0)


def settle() -> None:
    """Called when everything is open: what opening needed goes back, what stays is not looked at again."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    gc.freeze()
