"""The C library's heap, kept from holding on to what large requests have used."""

from __future__ import annotations

import ctypes
import sys

# Numbers from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
# What decoding one slice of 512 x 512 takes and frees again, block by block, and all together.
# Below these the kernel would clear new pages for every slice, which took as long as decoding it.
LARGE_BLOCK_BYTES = 4 * 2**20
FREE_BYTES = 8 * 2**20


def c_library() -> ctypes.CDLL | None:
    """Return glibc, or None on a system with another C library."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None


def bound_heap() -> None:
    """Make the heap give large blocks back when they are freed.

    By default each of many threads gets a heap of its own, and a block of up to 32 MiB that was
    freed once makes later ones of its size stay. Bodies and pixels then pile up: in two minutes of
    `python -m benchmarks.endurance` resident memory rose to 939 MiB without this, to 575 with it.
    What lies below others' blocks is given back by `give_heap_back`.
    """
    library = c_library()
    if library is not None:
        library.mallopt(M_ARENA_MAX, 2)
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, FREE_BYTES)


def give_heap_back() -> None:
    """Give the kernel all pages of the heap that nothing uses, as after a large request."""
    library = c_library()
    if library is not None:
        library.malloc_trim(0)
