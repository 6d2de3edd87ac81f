"""What the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "MODEL_CARD.md", ROOT / "CONTRIBUTING.md",
             *sorted((ROOT / "docs").rglob("*.md"))]  # fmt: skip
FOLDERS = "batch|benchmarks|deploy|docs|logs|model|scans|serve|steps|tests"
MADE_LATER = {"model/"}  # also the folder that a caller's own artefact may have


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(((?!https?://|#|mailto:)[^)\s#]+)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    paths = set(re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text)) - MADE_LATER
    missing += [path for path in sorted(paths) if not (ROOT / path).exists()]
    assert missing == []


def test_readme_is_a_first_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900
