"""What a Parquet file will take when it is read, from its footer and the headers of its pages.

Nothing keeps a footer from lying: 30 kB can unpack to a gigabyte. A reader makes room for what a
page's own header says, so these are what counts. And pyarrow 25 ends the whole process when it is
asked for the metadata of some damaged columns (a C++ exception that nothing catches), so the few
numbers are read here. Both are Thrift structures in the compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md), whose fields
are numbered in https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MARK = b"PAR1"
MAX_DEPTH = 16
MAX_ITEMS = 100_000
TRUE, FALSE, BYTE, DOUBLE, BINARY, STRUCT = 1, 2, 3, 7, 8, 12
VARINTS, LISTS = {4, 5, 6}, {9, 10}
REPEATED = 2  # FieldRepetitionType

Fields = dict[int, Any]


@dataclass(frozen=True)
class Footer:
    """What the end of a Parquet file says.

    Args:
        rows: number of rows.
        columns: number of columns that hold values.
        flat: whether each row has one value in each column.
        chunks: start and end of each stretch of pages, in bytes.
    """

    rows: int
    columns: int
    flat: bool
    chunks: list[tuple[int, int]]


class Reader:
    """Reads the compact protocol from a place in some bytes.

    Its methods raise IndexError at the end of the bytes and ValueError for what is none of it.
    """

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

    def fields(self, depth: int = 0) -> Fields:
        """Return a structure's values by the numbers of their fields."""
        values: Fields = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.signed()
            kind = head & 15
            # A truth value stands in the head itself.
            values[number] = kind == TRUE if kind in (TRUE, FALSE) else self.value(kind, depth + 1)
        return values

    def value(self, kind: int, depth: int) -> Any:
        """Return the value of a field or of an item of a list; texts as their length."""
        if depth > MAX_DEPTH:
            raise ValueError("Expected structures that are not nested deeply.")
        if kind in VARINTS:
            return self.signed()
        if kind == STRUCT:
            return self.fields(depth)
        if kind in LISTS:
            head = self.byte()
            size = self.varint() if head >> 4 == 15 else head >> 4
            if size > MAX_ITEMS:
                raise ValueError("Expected shorter lists.")
            return [self.value(head & 15, depth + 1) for _ in range(size)]
        if kind not in (TRUE, FALSE, BYTE, DOUBLE, BINARY):  # no field of Parquet's is a map
            raise ValueError("Expected another type.")
        length = self.varint() if kind == BINARY else 8 if kind == DOUBLE else 1
        self.at += length
        return length


def read_footer(data: bytes, max_footer_bytes: int) -> Footer:
    """Return what the end of a Parquet file says.

    Raises:
        ValueError, IndexError, KeyError, TypeError, AttributeError: it is damaged.
    """
    length = int.from_bytes(data[-8:-4], "little")
    if data[:4] != MARK or data[-4:] != MARK or not 0 < length <= max_footer_bytes:
        raise ValueError("Expected a Parquet file with a footer of moderate length.")
    footer = Reader(data[:-8], len(data) - 8 - length).fields()
    elements = footer[2][1:]  # FileMetaData.schema, without its root
    leaves = [element for element in elements if not element.get(5)]  # num_children
    flat = len(leaves) == len(elements) and all(leaf.get(3) != REPEATED for leaf in leaves)
    chunks = []
    for group in footer[4]:  # row_groups
        for chunk in group[1]:  # columns
            column = chunk[3]  # meta_data
            start = column[9]  # data_page_offset
            if 0 < column.get(11, 0) < start:  # dictionary_page_offset
                start = column[11]
            chunks.append((start, start + column[7]))  # total_compressed_size
    if any(not 0 < start <= end <= len(data) for start, end in chunks):
        raise ValueError("Expected pages within the file.")
    return Footer(footer[3], len(leaves), flat, chunks)


def page_sizes(data: bytes, footer: Footer) -> Iterator[int]:
    """Yield the unpacked size of each page of a Parquet file, in bytes.

    Raises:
        ValueError, IndexError, KeyError: pages are damaged.
    """
    for start, end in footer.chunks:
        reader = Reader(data, start)
        while reader.at < end:
            header = reader.fields()
            unpacked, packed = header[2], header[3]
            if min(unpacked, packed) < 0:
                raise ValueError("Expected sizes of a page.")
            reader.at += packed
            yield unpacked
