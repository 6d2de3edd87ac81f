"""The one error of decoding, and the sizes of a picture that are decoded at all."""

from __future__ import annotations

from typing import Literal

# One word for each kind of reason, for programs. Callers rely on them: add, never rename.
# docs/serving.md says what each means.
ErrorCode = Literal[
    "empty",
    "wrong_type",
    "not_base64",
    "unknown_format",
    "damaged",
    "unsupported_encoding",
    "several_images",
    "too_small",
    "too_large",
    "too_costly",
    "not_a_slice",
    "wrong_modality",
    "localizer",
    "not_axial",
    "colour",
    "no_pixels",
    "no_grey_levels",
    "no_hounsfield_units",
    "missing_element",
    "invalid_element",
    "header_mismatch",
    "screen_capture",
]

MAX_PIXELS = 2**25  # just above an 8K screenshot (7680 x 4320); 134 MB decoded at 4 bytes a pixel
MIN_SIDE_PX = 32  # smaller is an icon: 1/16 of a CT matrix of 512
MAX_ASPECT_RATIO = 8  # an axial slice is about 1.5 times as wide as high; 8 is a strip, not a slice


class ScanError(ValueError):
    """A scan that cannot be scored; the message says what was expected, what came, what to do."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        """Keep both as arguments, so that the error can be sent to another process."""
        super().__init__(code, message)
        self.code: ErrorCode = code

    def __str__(self) -> str:
        """Return the sentence."""
        return str(self.args[1])


def check_size(width_px: int, height_px: int) -> None:
    """Refuse a picture whose header gives a size no CT slice has, before it is decoded."""
    received = f"received one of {width_px} x {height_px} pixels"
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise ScanError(
            "too_small",
            f"Expected a slice of at least {MIN_SIDE_PX} pixels a side, {received}; "
            "send the original, not a thumbnail.",
        )
    if width_px * height_px > MAX_PIXELS:
        raise ScanError(
            "too_large",
            f"Expected a slice of at most {MAX_PIXELS / 1e6:.1f} million pixels, {received}; "
            "send it at its original size.",
        )
    if max(width_px, height_px) > MAX_ASPECT_RATIO * min(width_px, height_px):
        raise ScanError(
            "not_a_slice",
            f"Expected a slice at most {MAX_ASPECT_RATIO} times as long as wide, {received}; "
            "send one whole slice.",
        )
