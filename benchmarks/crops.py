"""Draw a contact sheet: scans with the box that the network sees of each.

python -m benchmarks.crops --source folder-or.zip --output crops.png
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import numpy as np
from PIL import Image, ImageDraw

from model.body import WHOLE, body_box
from model.crop import CropAspect, cut_out
from model.decoding.errors import ScanError
from model.decoding.scan_file import decode_grey

TILE_PX = 150
COLUMNS = 10
FOUND, TAKEN_WHOLE = (255, 60, 0), (0, 220, 0)


def files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each file of a folder or a zip."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                yield path.name, path.read_bytes()
    else:
        with zipfile.ZipFile(source) as archive:
            for name in sorted(archive.namelist()):
                if not name.endswith("/"):
                    yield name, archive.read(name)


def tile(data: bytes, aspect: CropAspect) -> Image.Image:
    """Draw one scan with its box: red where a body was found, green where it is taken whole."""
    grey = decode_grey(data)
    picture = Image.fromarray(grey).convert("RGB").resize((TILE_PX, TILE_PX))
    body = body_box(grey)
    box = cut_out(grey, body, TILE_PX, aspect).box
    edges = [min(max(edge, 0), 1) * (TILE_PX - 1) for edge in box]
    colour = TAKEN_WHOLE if body == WHOLE else FOUND
    ImageDraw.Draw(picture).rectangle(edges, outline=colour, width=2)
    return picture


@click.command(help=__doc__)
@click.option("--source", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("crops.png"))
@click.option("--crop-aspect", type=click.Choice(get_args(CropAspect)), default="stretched")
@click.option("--scans", type=click.IntRange(1), default=100, help="At random, at most.")
@click.option("--seed", type=int, default=0)
def main(source: Path, output: Path, crop_aspect: CropAspect, scans: int, seed: int) -> None:
    tiles, refused = [], 0
    found = list(files(source))
    for place in sorted(np.random.default_rng(seed).permutation(len(found))[:scans]):
        try:
            tiles.append(tile(found[place][1], crop_aspect))
        except ScanError:
            refused += 1
    if not tiles:
        raise click.ClickException(f"Expected scans in {source}; found none among its files.")
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE_PX, rows * TILE_PX))
    for place, picture in enumerate(tiles):
        sheet.paste(picture, (place % COLUMNS * TILE_PX, place // COLUMNS * TILE_PX))
    sheet.save(output)
    click.echo(f"{output}: {len(tiles)} scans, {refused} files that are no scan")


if __name__ == "__main__":
    main()
