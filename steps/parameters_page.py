"""Writes docs/parameters.md from the declarations: python -m steps.parameters_page."""

from __future__ import annotations

from pathlib import Path

from steps.folders import write_whole
from steps.parameters import SECTIONS, Section, kind, parameters_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "parameters.md"
HEAD = """\
# Parameters

`params.yaml` has the value of every parameter, in a section per stage. `-P name=value` changes one
for one run and wins over the file; a name that several stages have, such as `seed`, changes it in
all of them:

```sh
mlflow run . --env-manager local -P epochs=50          # the whole pipeline
mlflow run . -e training --env-manager local -P epochs=50
python -m steps.training --epochs 50                   # one stage
```

This page is written by `python -m steps.parameters_page` from the declarations in
`steps/parameters.py`. To add a parameter, declare it there, give its value in `params.yaml`, use it
in its stage, and run that command.
"""


def page() -> str:
    """Return the text of docs/parameters.md."""
    return HEAD + "".join(_table(section) for section in SECTIONS)


def _table(section: type[Section]) -> str:
    lines = [
        f"\n## {section.section}\n",
        f"{section.__doc__}\n",
        "| parameter | value | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in parameters_of(section).items():
        default = str(field.default)
        default = default.lower() if isinstance(field.default, bool) else default
        lines.append(
            f"| `{name}` | {kind(field)} | {f'`{default}`' if default else 'empty'} | "
            f"{field.description} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_whole(PAGE, page())
