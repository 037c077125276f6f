# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM where it works, else QEMU's own translator (TCG)."""

from __future__ import annotations

import os
import shutil
import subprocess
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.vm.cache import digest
from tests.vm.command import environment
from tests.vm.errors import HarnessError

if TYPE_CHECKING:
    from tests.vm.cache import Cache

QEMU: Final = "qemu-system-x86_64"
_KVM: Final = Path("/dev/kvm")
_PROBE_SECONDS: Final = 5
# A boot sector: mov ecx, 20000000; dec ecx; jnz; mov al, 42; out 0xf4, al; hlt.  The loop is done in no time by a
# processor, and takes longer than anyone waits where KVM only interprets (as in some clouds' own virtual machines).
_CODE: Final = b"\x66\xb9" + (20_000_000).to_bytes(4, "little") + b"\x66\x49\x75\xfc\xb0\x2a\xe6\xf4\xf4\xeb\xfd"
_SECTOR: Final = _CODE.ljust(510, b"\0") + b"\x55\xaa"
_SECTOR_RAN: Final = 42 << 1 | 1  # how isa-debug-exit turns the byte into an exit status


class Accel(StrEnum):
    """How the guest's instructions are run."""

    KVM = "kvm"
    TCG = "tcg"


def choose(cache: Cache) -> Accel:
    """Which one to use, tried once per boot of this machine."""
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return Accel.TCG
    return Accel(cache.note("accel", _stamp(), lambda: _probe(cache)))


def distrust_kvm(cache: Cache) -> None:
    """KVM passed the probe and yet boots no guest: use TCG until this machine's next boot."""
    cache.put_note("accel", _stamp(), Accel.TCG)


def _probe(cache: Cache) -> Accel:
    with cache.scratch() as folder:
        (folder / "sector").write_bytes(_SECTOR)
        argv = [
            *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-machine", "pc", "-accel", Accel.KVM, "-cpu", "host", "-m", "16"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
            *("-drive", "if=ide,format=raw,snapshot=on,file=sector"),
        ]
        try:
            done = subprocess.run(
                argv,
                check=False,
                cwd=folder,
                env=environment({"TMPDIR": str(folder)}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return Accel.TCG
    return Accel.KVM if done.returncode == _SECTOR_RAN else Accel.TCG


def _stamp() -> str:
    return digest(Path("/proc/sys/kernel/random/boot_id").read_text(), qemu_stamp())


def qemu_stamp() -> str:
    """Changes when another QEMU is installed, and is there sooner than what `--version` says."""
    path = shutil.which(QEMU)
    if path is None:
        raise HarnessError(f"there is no {QEMU} on PATH")
    status = Path(path).stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"
