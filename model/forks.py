"""Keep a fork from falling into an inference, and know afterwards that there was one.

`fork` copies memory and one thread. A lock that another thread held at that moment is held for
ever in the child, and threads that a pool counts on are gone (fork(2), "Notes" on threads). So a
fork waits for the inferences under way, none starts meanwhile, and pools are built anew.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Inferences:
    """The inferences under way in this process. Make it once, when the module is imported."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._forking: int | None = None  # the thread that forks, while it holds the lock
        # Requests by identity; one that is given up with its caller goes by itself.
        self._under_way = weakref.WeakValueDictionary[int, Any]()
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_in_parent,
                after_in_child=self._after_in_child,
            )

    def start(self, request: Any, pixels: Any) -> None:
        """Queue an inference; waits while the process forks."""
        with self._starting:
            self._under_way[id(request)] = request
            request.start_async({0: pixels})

    def wait(self, request: Any) -> None:
        """Wait until an inference is done."""
        request.wait()
        self._under_way.pop(id(request), None)

    def _before_fork(self) -> None:
        self._starting.acquire()
        self._forking = threading.get_ident()
        for request in list(self._under_way.values()):
            request.wait()

    def _after_in_parent(self) -> None:
        # A fork that began before this was registered, in another thread, has not locked.
        if self._forking == threading.get_ident():
            self._forking = None
            self._starting.release()

    def _after_in_child(self) -> None:
        self._under_way.clear()
        self._forking = None
        self._starting = threading.Lock()


class PerProcess(Generic[T]):
    """A thing that a forked child must make anew, such as a thread pool."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made = (os.getpid(), make())

    def get(self) -> T:
        """Return this process's own; threads that ask at once may each make one, and that is fine.

        The last one made is kept.
        """
        process, thing = self._made
        if process != os.getpid():
            thing = self._make()
            self._made = (os.getpid(), thing)
        return thing
