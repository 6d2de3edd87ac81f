"""Unpacking a member of a zip in one go, where a fast library is there for it."""

from __future__ import annotations

import functools
import struct
import zipfile
import zlib
from collections.abc import Callable

OVERHEAD_BYTES = 1024  # a packed member is hardly ever longer than its content
LOCAL, LOCAL_BYTES = b"PK\x03\x04", 30  # before a member, APPNOTE.TXT 4.3.7


def inflated_at_once(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | None:
    """Unpack a member with libdeflate, which takes half as long as zipfile.

    Returns:
        None where that cannot be: libdeflate is not here, or the member is not packed with deflate,
        or is not what the directory says. Then zipfile finds out what is wrong.
    """
    inflate, file = libdeflate(), opened.fp
    if inflate is None or file is None or entry.compress_type != zipfile.ZIP_DEFLATED:
        return None
    if entry.compress_size > entry.file_size + OVERHEAD_BYTES:
        return None
    file.seek(entry.header_offset)
    local = file.read(LOCAL_BYTES)
    if not local.startswith(LOCAL) or len(local) < LOCAL_BYTES or not entry.file_size:
        return None
    file.seek(sum(struct.unpack_from("<HH", local, 26)), 1)  # lengths of its name and extra field
    try:
        content = inflate(file.read(entry.compress_size), entry.file_size)
    except Exception:
        return None
    whole = len(content) == entry.file_size and zlib.crc32(content) == entry.CRC
    return content if whole else None


@functools.cache
def libdeflate() -> Callable[[bytes, int], bytes] | None:
    """Return what unpacks a deflate stream to a size, None where no model brought imagecodecs."""
    try:
        from imagecodecs import deflate_decode
    except ImportError:
        return None
    return lambda packed, size: bytes(deflate_decode(packed, raw=True, out=size))
