"""The input of a job: its objects, listed and read through one client."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from batch.faults import CannotRunError
from batch.locations import Access, Location, input_client
from batch.source.fetch import Fetched, fetch_object
from batch.source.inventory import inventory_pages
from batch.source.listing import ScanObject, list_objects
from batch.source.selection import SelectedPage, Selection, select


class Source:
    """An S3 prefix or a folder. Safe to use from several threads."""

    def __init__(
        self,
        location: Location,
        access: Access,
        selection: Selection | None = None,
        inventory: str | None = None,
    ) -> None:
        """Make the client; nothing is read yet.

        Args:
            selection: which of the objects are scored; None: all.
            inventory: an S3 Inventory to use in place of a listing.
        """
        self.location = location
        self._access, self._inventory = access, inventory
        self._selection = selection or Selection()
        # The output has a client of its own, so that throttled reads do not slow down its writes.
        self._client = input_client(location, access)

    def pages(self) -> Iterator[SelectedPage]:
        """Return a new listing of the objects to score."""
        if self._inventory:
            pages = inventory_pages(self._inventory, self.location, self._access)
        else:
            pages = list_objects(self.location, self._client)
        return select(pages, self.location.uri, self._selection)

    def pages_with_objects(self) -> Iterator[SelectedPage]:
        """Return a new listing, once it shows that it can be read and is not empty.

        Raises:
            CannotRunError: it cannot be read, or there is nothing to score.
        """
        pages = self.pages()
        met: list[SelectedPage] = []
        for page in pages:
            met.append(page)
            if page.objects:
                return chain(met, pages)
        raise CannotRunError(self._empty(sum(page.passed_over for page in met)))

    def fetch(self, scan: ScanObject) -> Fetched:
        """Return an object's bytes, or why there are none."""
        return fetch_object(self._client, scan)

    def _empty(self, passed_over: int) -> str:
        patterns = {"match": self._selection.include, "do not match": self._selection.exclude}
        matching = " and".join(f" that {how} {', '.join(of)}" for how, of in patterns.items() if of)
        beside = f" ({passed_over} hidden or system files were passed over)" if passed_over else ""
        return (
            f"There are no objects{matching} in {self._inventory or self.location.uri} under "
            f"{self.location.uri}{beside}. Check the prefix; earlier results, if any, were left "
            "alone."
        )
