# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree of files that looks like a kernel's sysfs and procfs.  The VM tests have the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def add_livepatch(
    root: Path,
    name: str,
    *,
    enabled: int = 1,
    transition: int = 0,
    objects: dict[str, tuple[str, ...]] | None = None,
    **attributes: str,
) -> None:
    """A livepatch in sysfs.  `objects` maps an object to its "function,sympos" directories."""
    folder = root / "sys/kernel/livepatch" / name
    folder.mkdir(parents=True)
    for attribute, value in {"enabled": str(enabled), "transition": str(transition), **attributes}.items():
        (folder / attribute).write_text(f"{value}\n")
    (folder / "force").write_text("")
    for each, functions in (objects or {"vmlinux": ("cmdline_proc_show,1",)}).items():
        (folder / each).mkdir()
        (folder / each / "patched").write_text("1\n")
        for function in functions:
            (folder / each / function).mkdir()


def tell_of_signatures(root: Path, *, sig_enforce: str | None, lockdown: str | None) -> None:
    """What the kernel shows of its demands; None: it has no such file."""
    for path, value in (
        ("sys/module/module/parameters/sig_enforce", sig_enforce),
        ("sys/kernel/security/lsm", "lockdown,capability"),
        ("sys/kernel/security/lockdown", lockdown),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if value is not None:
            (root / path).write_text(f"{value}\n")


def add_module(
    root: Path,
    name: str,
    *,
    taint: str = "OEK",
    references: int = 1,
    state: str = "Live",
    build_id: bytes = b"\xab" * 20,
) -> None:
    """A loaded module with a build id."""
    notes = root / "sys/module" / name / "notes"
    notes.mkdir(parents=True)
    note = (4).to_bytes(4, "little") + len(build_id).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"GNU\0"
    (notes / ".note.gnu.build-id").write_bytes(note + build_id)
    (notes.parent / "taint").write_text(f"{taint}\n")
    modules = root / "proc/modules"
    modules.parent.mkdir(exist_ok=True)
    with modules.open("a") as file:
        file.write(f"{name} 16384 {references} - {state} 0x0000000000000000" + (f" ({taint})\n" if taint else "\n"))
