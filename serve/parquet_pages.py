"""The sizes of a Parquet file's pages, from the headers in front of each.

The footer says how many bytes a column has unpacked, but nothing keeps it from lying: 30 kB can
unpack to a gigabyte. A reader makes room for what a page's own header says, so these are what
counts. Headers are Thrift structures in the compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

from collections.abc import Iterator

UNPACKED_SIZE, PACKED_SIZE = 2, 3  # fields of PageHeader in parquet.thrift
MAX_DEPTH = 8
BYTES_OF_TYPE = {1: 0, 2: 0, 3: 1, 7: 8}  # true, false, byte, double
VARINTS, BINARY, STRUCT = {4, 5, 6}, 8, 12


class Reader:
    """Reads the compact protocol from a place in some bytes; IndexError at their end."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def byte(self) -> int:
        """Return the next byte."""
        value = self.data[self.at]
        self.at += 1
        return value

    def varint(self) -> int:
        """Return an unsigned number of 7 bits a byte, the lowest first."""
        value = shift = 0
        while shift < 70:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError("Expected a number of at most 64 bits.")

    def signed(self) -> int:
        """Return a signed number, which alternates: 0, -1, 1, -2, …"""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and type of a structure's fields; the caller reads or skips each value."""
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.signed()
            yield number, head & 15

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over a value."""
        if depth > MAX_DEPTH:
            raise ValueError("Expected structures that are not nested deeply.")
        if kind in BYTES_OF_TYPE:
            self.at += BYTES_OF_TYPE[kind]
        elif kind in VARINTS:
            self.varint()
        elif kind == BINARY:
            length = self.varint()
            self.at += length
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        else:  # lists and maps, which no page header has
            raise ValueError("Expected a page header.")


def unpacked_sizes(data: bytes, start: int, end: int) -> Iterator[int]:
    """Yield the unpacked size of each page of a column, in bytes.

    Args:
        data: the whole file.
        start: of the column's first page.
        end: of its last.

    Raises:
        ValueError: the pages are not where they should be, or have no size.
        IndexError: a header goes on after the end of the file.
    """
    reader = Reader(data, start)
    while reader.at < end:
        sizes: dict[int, int] = {}
        for number, kind in reader.fields():
            if kind in VARINTS and number in (UNPACKED_SIZE, PACKED_SIZE):
                sizes[number] = reader.signed()
            else:
                reader.skip(kind)
        if len(sizes) < 2 or min(sizes.values()) < 0:
            raise ValueError("Expected a page's sizes.")
        reader.at += sizes[PACKED_SIZE]
        yield sizes[UNPACKED_SIZE]
