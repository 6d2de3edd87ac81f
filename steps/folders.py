"""Output folders and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replaced_folder(output: Path, keep: tuple[str, ...] = ()) -> Iterator[Path]:
    """Give an empty folder beside `output` that takes its place when the block ends well.

    A stage that is killed or fails leaves `output` as it was; what it had written is removed by
    the next run.

    Args:
        output: the stage's folder.
        keep: names in the old folder to carry over where the block did not write them anew.
    """
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    for name in keep:
        if (output / name).exists() and not (part / name).exists():
            (output / name).rename(part / name)
    if output.exists():
        old = output.with_name(f".{output.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        output.rename(old)
        part.rename(output)
        shutil.rmtree(old)
    else:
        part.rename(output)


def write_whole(path: Path, text: str) -> None:
    """Write a file that is either as it was or complete, also after a kill or a full disk."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
