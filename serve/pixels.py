"""POST /pixels: the pixels that a scan is scored from, raw or as a picture."""

from __future__ import annotations

import asyncio
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from serve.http.errors import RefusalError
from serve.params import bad_params
from serve.scoring import ServedModel
from serve.uploads import files_in, multipart_form

MAX_PIXELS = 2**23  # 16 MiB in Hounsfield units; a slice has 2**18 to 2**20
FORMATS = ("raw", "png")
# Centre and width in Hounsfield units, as on workstations (Radiopaedia, "Windowing (CT)").
WINDOWS = {"lung": (-600.0, 1500.0), "soft": (40.0, 400.0), "bone": (400.0, 1800.0)}
HEADERS = ("X-Width", "X-Height", "X-Unit", "X-Dtype", "X-Inverted", "X-Spacing-Mm",
           "X-Position-Mm")  # fmt: skip
EXPECTED = "Expected one scan, as from curl -F files=@scan.dcm"


async def pixels_answer(request: Request, model: ServedModel) -> Response:
    """Return the pixels of the scan in a request.

    Raises:
        RefusalError: 400 for another number of files or a wrong parameter, 422 for what is no scan.
    """
    shape, window = options(request)
    form = await multipart_form(request, model.limits)
    files = files_in(form)
    if any(isinstance(part, str) for _, part in form.multi_items()):
        raise bad_params(
            "Expected one file and no other field; format and window go into the query."
        )
    if len(files) != 1:
        raise RefusalError(400, "bad_request", f"{EXPECTED}; received {len(files)} files.")
    data = await files[0].read()
    return await asyncio.to_thread(answer_of, data, shape, window, model)


def options(request: Request) -> tuple[str, str]:
    """Return `format` and `window` of the query.

    Raises:
        RefusalError: 400 for another name or value.
    """
    given = dict(request.query_params)
    shape, window = given.pop("format", "raw"), given.pop("window", "lung")
    if shape not in FORMATS or window not in WINDOWS or given:
        raise bad_params(
            f"Expected format ({', '.join(FORMATS)}) and window ({', '.join(WINDOWS)}) in the "
            "query; received something else."
        )
    return shape, window


def answer_of(data: bytes, shape: str, window: str, model: ServedModel) -> Response:
    """Return a scan's pixels as an answer. Runs in a worker thread."""
    found = model.pixels(data)
    values: NDArray[Any] = found["values"]
    height, width = values.shape
    if values.size > MAX_PIXELS:
        raise RefusalError(
            413,
            "body_too_large",
            f"Expected a scan of at most {MAX_PIXELS / 1e6:.1f} million pixels, received one of "
            f"{width} x {height}: show its own file.",
        )
    headers = headers_of(found)
    if shape == "png":
        grey = windowed(values, *WINDOWS[window]) if found["unit"] == "HU" else values
        shown = 255 - grey if found["inverted"] else grey
        return Response(grey_png(shown), media_type="image/png", headers=headers)
    body = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    return Response(body, media_type="application/octet-stream", headers=headers)


def headers_of(found: dict[str, Any]) -> dict[str, str]:
    """Return what a client needs to know to show and to measure pixels."""
    values = found["values"]
    height, width = values.shape
    cells = [width, height, found["unit"], values.dtype.name, int(found["inverted"])]
    spacing, position = found["spacing_mm"], found["position_mm"]
    cells.append(None if spacing is None else ",".join(f"{mm:g}" for mm in spacing))
    cells.append(None if position is None else f"{position:.3f}")
    return {name: str(cell) for name, cell in zip(HEADERS, cells, strict=True) if cell is not None}


def windowed(values: NDArray[np.int16], centre: float, width: float) -> NDArray[np.uint8]:
    """Return Hounsfield units as grey levels in a window (DICOM PS3.3 C.11.2.1.2.1)."""
    table = np.arange(-(2**15), 2**15, dtype=np.float64)
    table = ((table - (centre - 0.5)) / (width - 1) + 0.5) * 255
    grey = np.rint(np.clip(table, 0, 255)).astype(np.uint8)
    return np.take(grey, values.astype(np.int32) + 2**15)


def grey_png(grey: NDArray[np.uint8]) -> bytes:
    """Return a PNG of grey levels (ISO/IEC 15948): one image without filters, packed quickly."""
    height, width = grey.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each begins with its filter, which is none
    lines[:, 1:] = grey
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in parts)


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
