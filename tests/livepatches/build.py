# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the test livepatches, all in one run of kbuild, and again only when something that goes in has changed.

They are kept in build/livepatches/RELEASE/.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.livepatches.forge import for_other_kernel, needing
from tests.livepatches.generate import source
from tests.livepatches.headers import BuildError, find_headers
from tests.livepatches.table import ROWS, SPECIAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.livepatches.headers import Headers

_HERE: Final = Path(__file__).resolve().parent
_BUILT: Final = _HERE.parents[1] / "build" / "livepatches"
_NAMES: Final = (*(row.name for row in ROWS), *SPECIAL)
_KBUILD: Final = "".join(f"obj-m += {name}.o\n" for name in _NAMES)


def build(out: Path | None = None, *, release: str | None = None) -> dict[str, Path]:
    """Build every module for the kernel `release` (default: see find_headers); gives name -> file.

    The files are copied into `out`, if given.  Raises BuildError.
    """
    headers = find_headers(release)
    kept = _BUILT / headers.release
    kept.mkdir(parents=True, exist_ok=True)
    files = {name: kept / f"{name}.ko" for name in _NAMES}
    with _locked(kept / "lock"):
        _bring_up_to_date(headers, kept, files)
        if out is None:
            return files
        out.mkdir(parents=True, exist_ok=True)
        return {name: Path(shutil.copyfile(path, out / path.name)) for name, path in files.items()}


def _bring_up_to_date(headers: Headers, kept: Path, files: dict[str, Path]) -> None:
    sources = {
        each.name: each.read_text() for pattern in ("*.[ch]", "replacements/*.h") for each in _HERE.glob(pattern)
    }
    sources |= {f"{row.name}.c": source(row) for row in ROWS} | {"Kbuild": _KBUILD}
    key = _key(headers, sources)
    stamp = kept / "key"
    if stamp.exists() and stamp.read_text() == key and all(path.exists() for path in files.values()):
        return
    stamp.unlink(missing_ok=True)
    folder = kept / "kbuild"
    _write(folder, sources)
    kbuild(headers, folder)
    for old in kept.glob("*.ko"):
        old.unlink()
    for path in files.values():
        shutil.copyfile(folder / path.name, path)
    for row in ROWS:
        if row.for_other_kernel:
            files[row.name].write_bytes(for_other_kernel(files[row.name].read_bytes()))
        if row.needs is not None:
            files[row.name].write_bytes(needing(files[row.name].read_bytes(), row.needs))
    stamp.write_text(key)


def _key(headers: Headers, sources: dict[str, str]) -> str:
    """Of all that goes in; Module.symvers and .config stand for the headers, which change under the same release."""
    parts = [repr(sorted(sources.items())).encode()]
    parts += [each.read_bytes() for each in sorted(_HERE.glob("*.py"))]
    parts += [(headers.folder / name).read_bytes() for name in ("Module.symvers", ".config")]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _write(folder: Path, sources: dict[str, str]) -> None:
    """Make the sources those of `folder`; kbuild compiles what is newer than its object."""
    folder.mkdir(exist_ok=True)
    for name, text in sources.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    for path in [*folder.glob("*.c"), *folder.glob("*.h")]:
        if path.name not in sources and not path.name.endswith(".mod.c"):
            path.unlink()


def kbuild(headers: Headers, folder: Path) -> None:
    """Build the modules that `folder` has a Kbuild file for, in it.  Raises BuildError with what the compiler said."""
    # Without debug information: the reader must not need it, and the build ids would depend on the folder's name.
    without = ("CONFIG_DEBUG_INFO=", "CONFIG_DEBUG_INFO_BTF_MODULES=")
    command = headers.make(folder, f"-j{os.cpu_count() or 1}", *without, "modules")
    try:
        done = subprocess.run(
            command,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except FileNotFoundError as error:
        raise BuildError("make is missing: apt-get install make") from error
    if done.returncode != 0:
        raise BuildError(f"`{' '.join(command)}` failed:\n{done.stdout.strip()}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
