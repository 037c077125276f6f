# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to a directory, step by step: each name on it may be a link, and may become another (path_resolution(7))."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_LINKS: Final = 40  # MAXSYMLINKS


@dataclass(frozen=True, slots=True)
class Way:
    """The way to a directory: `end` is where it leads, free of links; None where it leads nowhere, as `reason` says.

    `steps` are the names on the way, each in a directory that is free of links; if one of them comes, goes or is
    changed, the way may be another.
    """

    steps: tuple[Path, ...]
    end: Path | None
    reason: str = ""


def find_way(path: Path, before: Callable[[Path], None]) -> Way:
    """The way to an absolute path.  `before` is called with each directory before a name is looked up in it."""
    steps: list[Path] = []
    here, rest, links = Path("/"), list(reversed(path.parts[1:])), 0
    while rest:
        name = rest.pop()
        if name == "..":
            here = here.parent
            continue
        before(here)
        step = here / name
        steps.append(step)
        try:
            mode = os.lstat(step).st_mode
            target = Path(os.readlink(step)) if stat.S_ISLNK(mode) else None
        except FileNotFoundError:
            return Way(tuple(steps), None, _missing(step, path))
        except OSError as error:
            return Way(tuple(steps), None, f"{step}: {error.strerror}")
        if target is not None:
            links += 1
            if links > _MOST_LINKS:
                return Way(tuple(steps), None, f"too many links, the last of them {step}")
            here = Path("/") if target.is_absolute() else here
            rest += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        elif stat.S_ISDIR(mode):
            here = step
        else:
            return Way(tuple(steps), None, f"{step} is no directory")
    return Way(tuple(steps), here)


def _missing(step: Path, path: Path) -> str:
    return "does not exist" if step == path else f"{step} does not exist"
