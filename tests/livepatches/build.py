# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the table's livepatches against Debian's kernel headers, once for each state of the sources."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.livepatches.table import LIVEPATCHES, MODULES

if TYPE_CHECKING:
    from tests.livepatches.table import Row

PROJECT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = Path(__file__).resolve().parent / "src"
FLAVOUR: Final = "cloud-amd64"
"""Debian's kernel flavour that the test host runs."""


class BuildError(Exception):
    """The livepatches cannot be built."""


def installed_release() -> str:
    """The newest kernel of the flavour whose headers are installed.  Raises BuildError where there are none."""
    headers = list(Path("/usr/src").glob(f"linux-headers-*-{FLAVOUR}"))
    if not headers:
        raise BuildError(f"no kernel headers in /usr/src; as root: apt-get install linux-headers-{FLAVOUR}")
    newest = max(headers, key=lambda each: [int(part) for part in re.findall(r"\d+", each.name)])
    return newest.name.removeprefix("linux-headers-")


def build(release: str | None = None) -> dict[str, Path]:
    """Every module of the table by name, built for the kernel `release` (default: the newest that has headers here).

    Raises BuildError with the compiler's words where that fails.
    """
    release = release or installed_release()
    sources = _sources()
    key = hashlib.sha256(repr((release, sorted(sources.items()))).encode()).hexdigest()[:16]
    folder = PROJECT / "build/livepatches" / release
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / ".key"
        if not stamp.exists() or stamp.read_text() != key:
            stamp.unlink(missing_ok=True)
            _compile(release, sources, folder)
            stamp.write_text(key)
    return {name: folder / f"{name}.ko" for name in (*(row.name for row in LIVEPATCHES), *MODULES)}


def for_another_kernel(data: bytes, release: str = "6.0.0-0-another") -> bytes:
    """A module's bytes, with the release in its vermagic changed; the length stays."""
    start = data.index(b"vermagic=") + len(b"vermagic=")
    end = data.index(b"\0", start)
    _release, _, flags = data[start:end].partition(b" ")
    changed = release.encode() + b" " + flags
    if len(changed) > end - start:
        raise ValueError(f"{release} is too long")
    return data[:start] + changed.ljust(end - start, b" ") + data[end:]


def _sources() -> dict[str, str]:
    files = {path.name: path.read_text() for path in SOURCES.iterdir()}
    files.update({f"{row.name}.c": _source(row) for row in LIVEPATCHES})
    objects = " ".join(f"{name}.o" for name in (*(row.name for row in LIVEPATCHES), *MODULES))
    files["Kbuild"] = f"obj-m := {objects}\nccflags-y := -Wall -Werror\n"
    return files


def _source(row: Row) -> str:
    lines = [f"#define KLP_REPLACE {'true' if row.replace else 'false'}", f"#define KLP_PRE_PATCH {row.pre_patch}"]
    objects = []
    for name in dict.fromkeys(name for name, _function in row.functions):
        functions = ", ".join(f"FUNCTION({function})" for each, function in row.functions if each == name)
        callbacks = ", ".join(f".{each} = {each}" for each in row.callbacks)
        named = "NULL" if name == "vmlinux" else f'"{name}"'
        array = f"(struct klp_func[]) {{ {functions}, {{}} }}"
        objects.append(f"{{ .name = {named}, .funcs = {array}, .callbacks = {{ {callbacks} }} }},")
    lines.append(f"#define KLP_OBJECTS {' '.join(objects)}")
    if row.states:
        states = " ".join(f"{{ .id = {state.id:#x}, .version = {state.version} }}," for state in row.states)
        lines.append(f"#define KLP_STATES {states}")
    if any(function == "klp_test_wait" for _name, function in row.functions):
        lines.append("#define KLP_WAITS")
    return "\n".join([*lines, '#include "livepatch.c"', ""])


def _compile(release: str, sources: dict[str, str], folder: Path) -> None:
    headers = Path("/usr/src") / f"linux-headers-{release}"
    if not headers.exists():
        raise BuildError(f"{headers} is not there; as root: apt-get install linux-headers-{release}")
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for name, text in sources.items():
        (work / name).write_text(text)
    made = subprocess.run(
        ["make", "-C", headers, f"M={work}", "-j4", "modules"],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if made.returncode != 0:
        raise BuildError(f"the test livepatches do not compile:\n{made.stdout}")
    for module in work.glob("*.ko"):
        # Nine tenths of a module are debug information, which nothing here reads.
        subprocess.run(["strip", "--strip-debug", module, "-o", folder / module.name], check=True)
