# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's switches that decide what becomes of the guard, as they are now."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from klpd.errors import KernelError
from klpd.kernel.sysfs import ROOT

FTRACE_ENABLED: Final = Path("/proc/sys/kernel/ftrace_enabled")
"""While it is 0, the kernel calls none of the programs that are attached to its functions: their trampolines are called
by ftrace (register_fentry in kernel/bpf/trampoline.c)."""
_PART: Final = 1 << 16
_ADDRESS: Final = re.compile(rb"^0*[1-9a-f]", re.MULTILINE)


def ftrace_is_off(path: Path = FTRACE_ENABLED) -> bool:
    """Whether kernel.ftrace_enabled is 0.  Raises KernelError."""
    try:
        return path.read_text(encoding="ascii").strip() == "0"
    except OSError as error:
        raise KernelError.of(f"cannot read {path}", error) from error


def modules_are_disabled(root: Path = ROOT) -> bool:
    """Whether kernel.modules_disabled is 1: until the next boot, no module is loaded or removed."""
    try:
        return (root / "proc/sys/kernel/modules_disabled").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False  # without CONFIG_MODULES there is none


def memory_is_confidential(root: Path = ROOT) -> bool:
    """Whether the kernel loads no program that reads its memory (LOCKDOWN_BPF_READ_KERNEL, asked for by
    bpf_tracing_func_proto in kernel/trace/bpf_trace.c).  Those that are loaded already go on.
    """
    try:
        return "[confidentiality]" in (root / "sys/kernel/security/lockdown").read_text(encoding="ascii")
    except OSError:
        return False  # it is not to be seen, or there is none


def addresses_are_hidden(root: Path = ROOT) -> bool:
    """Whether the kernel does not tell where its symbols are: it shows 0 for each (kallsyms_show_value in
    kernel/ksyms_common.c), to everybody with kernel.kptr_restrict=2.  libbpf takes these for the addresses.
    """
    try:
        with (root / "proc/kallsyms").open("rb") as symbols:
            # The first ones are at 0, or next to it, on some machines.
            return _ADDRESS.search(symbols.read(_PART)) is None
    except OSError:
        return True
