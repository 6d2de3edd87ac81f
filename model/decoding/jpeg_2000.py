"""What a JPEG 2000 codestream says of itself, read before a decoder runs: size, cost, wholeness.

Markers are those of ISO/IEC 15444-1 annex A; the same ones frame HTJ2K (15444-15).
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import ScanError

START = b"\xff\x4f\xff\x51"  # SOC, SIZ
COD, COC, POC, PPM, PPT, SOT, SOD, EOC = (
    0xFF52, 0xFF53, 0xFF5F, 0xFF60, 0xFF61, 0xFF90, 0xFF93, 0xFFD9,
)  # fmt: skip
MAX_PIXELS = 2**23  # CT has up to 2048 x 2048; the slowest codestream of 2^23 takes about 3 s
MAX_TILES = 4096  # the decoder keeps some 10 kB of each
MAX_TILE_PARTS = 2**14
MAX_WORK = 4_000_000  # layers times code-blocks and precincts, each some 0.3 µs and 200 bytes


@dataclass(frozen=True)
class Coding:
    """Coding parameters of a tile: SPcod and SGcod, A.6.1.

    Attributes:
        layers: quality layers.
        levels: wavelet decompositions.
        block_log2: (width, height) exponents of a code-block.
        precincts_log2: (width, height) exponents by resolution, lowest first.
    """

    layers: int
    levels: int
    block_log2: tuple[int, int]
    precincts_log2: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Jpeg2000:
    """A codestream of one component.

    Attributes:
        rows, columns: of the picture.
        precision_bits, is_signed: of its samples.
        decoding_bytes: memory that decoding takes, output included.
    """

    rows: int
    columns: int
    precision_bits: int
    is_signed: bool
    decoding_bytes: int


@dataclass
class _Tile:
    """What the tile-parts of one tile add up to."""

    coding: Coding
    parts: int = 0
    parts_expected: int = 0
    body_bytes: int = 0
    order_changes: bool = False


def size_of(data: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) of a codestream of one component, None for others."""
    if not data.startswith(START):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, 8)
    components, _, dx, dy = struct.unpack_from(">HBBB", data, 40)
    return (bottom - top, right - left) if (components, dx, dy) == (1, 1, 1) else None


def read_jpeg_2000(data: bytes) -> Jpeg2000:
    """Read the markers of a codestream whose `size_of` is known to be a slice's.

    Raises:
        ScanError: it is incomplete, or takes more to decode than any slice's.
        struct.error, IndexError: it is damaged.
    """
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = struct.unpack_from(
        ">8I", data, 8
    )
    sample, rows, columns = data[42], bottom - top, right - left
    if not (tile_width and tile_height) or tile_left > left or tile_top > top:
        raise incomplete()
    across = -(-(right - tile_left) // tile_width)
    down = -(-(bottom - tile_top) // tile_height)
    if rows * columns > MAX_PIXELS or across * down > MAX_TILES:
        raise _too_much(f"{columns} x {rows} pixels in {across * down} tiles")
    tiles = _read_tiles(data, across * down)
    work = 0
    for index, tile in tiles.items():
        x, y = index % across, index // across
        box = (
            max(tile_left + x * tile_width, left),
            max(tile_top + y * tile_height, top),
            min(tile_left + (x + 1) * tile_width, right),
            min(tile_top + (y + 1) * tile_height, bottom),
        )
        precincts, blocks = _precincts_and_blocks(box, tile.coding)
        packets = tile.coding.layers * precincts
        if tile.body_bytes < packets and not tile.order_changes:
            raise incomplete()
        work += tile.coding.layers * (precincts + blocks)
        if work > MAX_WORK:
            raise _too_much("too many layers, precincts or code-blocks")
    tile_pixels = min(tile_width, columns) * min(tile_height, rows)
    # 4 bytes a pixel in the picture and in a tile, 2 in the output; tiles, blocks and precincts.
    cost = rows * columns * 8 + tile_pixels * 8 + len(tiles) * 16_000 + work * 300 + len(data)
    return Jpeg2000(rows, columns, (sample & 0x7F) + 1, bool(sample & 0x80), cost)


def _read_tiles(data: bytes, count: int) -> dict[int, _Tile]:
    """Walk main header and tile-parts, refusing a codestream that lacks any of them."""
    coding, packed_headers, position = None, False, 2
    for marker, at, end in _segments(data, position, SOT):
        if marker in (COD, COC):
            coding = _coding(data, at, marker, coding)
        packed_headers |= marker in (POC, PPM)
        position = end
    if coding is None:
        raise incomplete()
    tiles: dict[int, _Tile] = defaultdict(lambda: _Tile(coding, order_changes=packed_headers))
    for _ in range(MAX_TILE_PARTS):
        if data[position : position + 2] != SOT.to_bytes(2):
            break
        index, part_bytes, _, parts = struct.unpack_from(">HIBB", data, position + 4)
        end = position + part_bytes if part_bytes else len(data)
        if index >= count or end > len(data) or 0 < part_bytes < 14:
            raise incomplete()
        tile = tiles[index]
        tile.parts += 1
        tile.parts_expected = max(tile.parts_expected, parts)
        body = position + 12
        for marker, at, segment_end in _segments(data, body, SOD):
            if marker in (COD, COC):
                tile.coding = _coding(data, at, marker, tile.coding)
            tile.order_changes |= marker in (POC, PPT)
            body = segment_end
        tile.body_bytes += max(end - body - 2, 0)
        position = end
    else:
        raise _too_much(f"over {MAX_TILE_PARTS} tile-parts")
    if len(tiles) < count or any(tile.parts < tile.parts_expected for tile in tiles.values()):
        raise incomplete()
    return tiles


def _segments(data: bytes, position: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start of its content and end of each segment up to the marker `last`."""
    while True:
        (marker,) = struct.unpack_from(">H", data, position)
        if marker == last:
            return
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker < 0xFF00 or marker in (SOT, SOD, EOC) or length < 2:
            raise incomplete()
        yield marker, position + 4, position + 2 + length
        position += 2 + length


def _coding(data: bytes, at: int, marker: int, default: Coding | None) -> Coding:
    """Read COD, or COC, which has all but the layers, of the one component."""
    if marker == COD:
        style, _, layers, _ = struct.unpack_from(">BBHB", data, at)
        at += 5
    else:
        if default is None:
            raise incomplete()
        _, style = data[at], data[at + 1]
        layers, at = default.layers, at + 2
    levels, block_width, block_height = data[at], data[at + 1], data[at + 2]
    if levels > 32 or block_width > 8 or block_height > 8:
        raise incomplete()
    sizes = data[at + 5 : at + 6 + levels] if style & 1 else b"\xff" * (levels + 1)
    if len(sizes) <= levels:
        raise incomplete()
    precincts = tuple((size & 15, size >> 4) for size in sizes)
    return Coding(layers, levels, (block_width + 2, block_height + 2), precincts)


def _precincts_and_blocks(box: tuple[int, int, int, int], coding: Coding) -> tuple[int, int]:
    """Count the precincts and (from above) the code-blocks of a tile, B.6 and B.7."""
    precincts = blocks = 0
    for resolution, (log_width, log_height) in enumerate(coding.precincts_log2):
        scale = coding.levels - resolution
        x0, y0, x1, y1 = ((edge + (1 << scale) - 1) >> scale for edge in box)
        if x1 <= x0 or y1 <= y0:
            continue
        across = ((x1 - 1) >> log_width) - (x0 >> log_width) + 1
        down = ((y1 - 1) >> log_height) - (y0 >> log_height) + 1
        precincts += across * down
        halved = 1 if resolution else 0  # three bands of half the size each, above the lowest
        block_width = 1 << min(coding.block_log2[0], max(log_width - halved, 0))
        block_height = 1 << min(coding.block_log2[1], max(log_height - halved, 0))
        bands = 3 if resolution else 1
        columns = ((x1 - x0) >> halved) // block_width + 2
        rows = ((y1 - y0) >> halved) // block_height + 2
        blocks += bands * columns * rows
    return precincts, blocks


def incomplete() -> ScanError:
    """Return the error for a codestream of which a part is missing."""
    return ScanError(
        "damaged",
        "Expected a whole JPEG 2000 codestream, received one that is damaged or cut short: a tile "
        "or a part of one is missing; send the DICOM file again.",
    )


def _too_much(received: str) -> ScanError:
    return ScanError(
        "too_costly",
        "Expected a JPEG 2000 codestream of a slice's size and structure, received one of "
        f"{received}; export the slice uncompressed.",
    )
