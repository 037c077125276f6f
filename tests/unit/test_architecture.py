# SPDX-License-Identifier: GPL-2.0-or-later
"""The directions of imports, and the map of the code in docs/design.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT: Final = Path(__file__).resolve().parents[2]
DESIGN: Final = (PROJECT / "docs" / "design.md").read_text()
FILES: Final = sorted((PROJECT / "klpd").rglob("*.py"))
SHARED: Final = {"buildid", "errors", "files", "layout", "messages", "model", "plain", "remembered", "report"}
"""The modules that are in no folder: values, and how they are written."""
BELOW: Final[dict[str, set[str]]] = {
    "": SHARED,
    "judge": SHARED,
    "module": SHARED,
    "policy": SHARED | {"judge", "module"},
    "kernel": SHARED | {"judge", "module"},
    "ctl": SHARED | {"judge", "policy", "module", "kernel"},
    "daemon": SHARED | {"judge", "policy", "module", "kernel"},
}
"""What each folder ("": what is in none) may import from, beside itself."""


def imported(file: Path) -> Iterator[str]:
    """The modules of klpd that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "klpd":
            parts = (node.module or "").split(".")
            yield from [f"{node.module}.{each.name}" for each in node.names] if len(parts) == 1 else [str(node.module)]
        elif isinstance(node, ast.Import):
            yield from [each.name for each in node.names if each.name.split(".")[0] == "klpd"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_imports_go_down_only(file: Path) -> None:
    parts = file.relative_to(PROJECT / "klpd").parts
    folder = parts[0] if len(parts) > 1 else ""
    from_where = {each.split(".")[1] for each in imported(file)} - {folder, "__version__"}
    assert from_where - BELOW[folder] == set()


def test_the_map_in_the_design_names_what_is_there() -> None:
    named = set(re.findall(r"`(klpd/[\w/.*-]+)`", DESIGN))
    assert len(named) > 40
    assert [each for each in sorted(named) if not list(PROJECT.glob(each))] == []
