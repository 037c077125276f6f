# SPDX-License-Identifier: GPL-2.0-or-later
"""An installed wheel has all that the package reads at run time."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from klpd import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT: Final = Path(__file__).parents[2]
SOURCES: Final = frozenset({".c", ".h", ".pyc"})
"""What is built, or built from."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Built in a copy, without a network."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "klpd", folder / "klpd", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, folder)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(folder / "dist"), str(folder)], check=True, capture_output=True)
    (made,) = (folder / "dist").iterdir()
    with zipfile.ZipFile(made) as opened:
        yield opened


def test_every_file_of_the_package_is_in_it(wheel: zipfile.ZipFile) -> None:
    files = (each for each in (PROJECT / "klpd").rglob("*") if each.is_file() and each.suffix not in SOURCES)
    wanted = {str(each.relative_to(PROJECT)) for each in files}
    assert {"klpd/daemon/org.klpd1.Manager.xml", "klpd/kernel/bpf/guard.bpf.o", "klpd/py.typed"} <= wanted
    assert wanted <= set(wheel.namelist())


def test_it_has_the_version_that_klpd_tells(wheel: zipfile.ZipFile) -> None:
    assert f"klpd-{__version__}.dist-info/METADATA" in wheel.namelist()
