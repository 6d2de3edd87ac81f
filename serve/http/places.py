"""Places in flight and bytes in memory, shared out among clients."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping

Shares = Mapping[Hashable, float]
"""Who asks (a client, a key), and the part of everything that each of them may hold."""


class Pool:
    """Counts units that are given out: never more than `total`, nor than anybody's share.

    One client must not be able to take everything, so a request names those it counts for, and the
    part of the total that each may hold: at least one unit, whatever the part.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self.lock = threading.Lock()
        self._held: Counter[Hashable] = Counter()

    def full(self) -> bool:
        """Return whether everything is given out."""
        return self.used >= self.total

    def take(self, units: int, shares: Shares) -> bool:
        """Give out `units`, or nothing and return False if that is too much for anybody."""
        with self.lock:
            if self.used + units > self.total:
                return False
            for holder, part in shares.items():
                if self._held[holder] + units > max(1, math.floor(part * self.total)):
                    return False
            self.used += units
            for holder in shares:
                self._held[holder] += units
            return True

    def give_back(self, units: int, shares: Shares) -> None:
        """Take `units` back."""
        with self.lock:
            self.used -= units
            for holder in shares:
                self._held[holder] -= units
                if not self._held[holder]:
                    del self._held[holder]


class Held:
    """What one request holds of a pool."""

    def __init__(self, pool: Pool, shares: Shares, units: int) -> None:
        self._pool = pool
        self._shares = shares
        self._units = units

    def grow_to(self, units: int) -> bool:
        """Hold as many units, if that is more; False if that is too much for anybody."""
        more = max(0, units - self._units)
        if not self._pool.take(more, self._shares):
            return False
        self._units += more
        return True

    def give_back(self) -> None:
        """Hold nothing any more."""
        self._pool.give_back(self._units, self._shares)
        self._units = 0


class Place:
    """One place among the requests in flight, free again when its last holder lets go.

    A request that timed out has been answered, but the thread that scores it stops only between
    batches; until then it keeps the place, so that a slow server does not take on more work, and
    the memory of its scans counts as taken.
    """

    def __init__(self, pool: Pool, shares: Shares) -> None:
        self._pool = pool
        self._shares = shares
        self._holders = 1
        self._lock = threading.Lock()
        self._when_free: list[Callable[[], None]] = []

    def when_free(self, action: Callable[[], None]) -> None:
        """Have something done once the last holder lets go."""
        self._when_free.append(action)

    def hold(self) -> bool:
        """Add a holder; False if the place is already free, so the work is no longer wanted."""
        with self._lock:
            if not self._holders:
                return False
            self._holders += 1
            return True

    def release(self) -> None:
        """Take a holder away, and free the place with the last one."""
        with self._lock:
            self._holders -= 1
            last = not self._holders
        if last:
            self._pool.give_back(1, self._shares)
            for action in self._when_free:
                action()


def take_place(pool: Pool, shares: Shares) -> Place | None:
    """Return a place, or None if there is none for this client."""
    return Place(pool, shares) if pool.take(1, shares) else None
