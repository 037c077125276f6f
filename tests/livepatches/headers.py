# SPDX-License-Identifier: GPL-2.0-or-later
"""The headers of Debian's kernels, as the linux-headers packages install them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SOURCES: Final = Path("/usr/src")
_PREFIX: Final = "linux-headers-"


class BuildError(Exception):
    """The modules cannot be built; the text says what is missing or what the compiler said."""


@dataclass(frozen=True, slots=True)
class Headers:
    """What modules for the kernel `release` are built with."""

    release: str
    folder: Path


def find_headers(release: str | None = None) -> Headers:
    """The headers for `release`, or for the newest kernel of the cloud flavour, which the test host runs.

    Raises BuildError where they are not installed.
    """
    if release is not None:
        folder = _SOURCES / f"{_PREFIX}{release}"
        if not (folder / "Makefile").exists():
            raise BuildError(f"{folder} is missing: apt-get install {_PREFIX}{release}")
        return Headers(release, folder)
    folders = [each.parent for each in _SOURCES.glob(f"{_PREFIX}*-cloud-*/Makefile")]
    if not folders:
        raise BuildError(f"no {_PREFIX}*-cloud-* in {_SOURCES}: apt-get install {_PREFIX}cloud-amd64")
    newest = max(folders, key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.name)])
    return Headers(newest.name.removeprefix(_PREFIX), newest)
