"""Name what a file is from its first bytes, for messages about files that are not scans."""

from __future__ import annotations

ACCEPTED = "a chest CT slice as PNG, JPEG, BMP, TIFF, WebP or DICOM"
OTHER_CONTENT = (  # what people send by mistake: offset, signature, name
    (0, b"GIF8", "a GIF picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"PK\x03\x04", "a zip archive or office document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftyphev", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftyp", "a video"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy file"),
    (0, b"NRRD", "an NRRD volume"),
    (344, b"n+1\0", "a NIfTI volume"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file it stands for"),
)


def content_name(data: bytes) -> str:
    """Name what the bytes are, from their content alone."""
    for offset, signature, name in OTHER_CONTENT:
        if data[offset : offset + len(signature)] == signature:
            return name
    start = data[:512]
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if start.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        return f"{len(data)} bytes of text"
    return f"{len(data)} bytes of an unknown kind"
