"""Decision records have one form, and the index lists every one of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "adr"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
SECTIONS = ["Context", "Decision", "Why", "Alternatives", "Consequences"]


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_decision_has_the_form_of_the_template(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert re.match(rf"# {record.name[:4]}\. \S", text)
    sections = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert "Decision" in sections
    assert sections == [name for name in SECTIONS if name in sections]


def test_the_template_has_every_section_in_order() -> None:
    text = (FOLDER / "template.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == SECTIONS


def test_the_index_lists_every_decision_under_its_title() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[(\d{4})\]\(([^)]+)\) (.+)$", index, flags=re.MULTILINE)
    titles = [
        (path.name[:4], path.name, path.read_text(encoding="utf-8").split("\n")[0][8:])
        for path in RECORDS
    ]
    assert listed == titles
