# SPDX-License-Identifier: GPL-2.0-or-later
"""What the running kernel makes of modules' signatures: whether it demands them, and whether it verified that of a
loaded module with a key of its own keyrings.

It is the kernel's word, and all that it gives: which keys it has cannot be told reliably (klpd-policy(5)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.kernel.sysfs import ROOT
from klpd.model import Demand

if TYPE_CHECKING:
    from pathlib import Path


def read_demand(root: Path = ROOT) -> Demand | None:
    """Whether the kernel demands signatures, as module_sig_check (kernel/module/signing.c) decides; None where this
    cannot be read.

    Lockdown refuses from its level "integrity" on (LOCKDOWN_MODULE_SIGNATURE).
    """
    try:
        enforced = (root / "sys/module/module/parameters/sig_enforce").read_text(encoding="ascii")
    except FileNotFoundError:
        return Demand.UNCHECKED if (root / "sys/module").is_dir() else None
    except OSError:
        return None
    if enforced.strip() == "Y":
        return Demand.SIG_ENFORCE
    try:
        lockdown = (root / "sys/kernel/security/lockdown").read_text(encoding="ascii")
    except FileNotFoundError:
        # Without securityfs it is not to be seen whether the kernel is locked down.
        return Demand.NOTHING if (root / "sys/kernel/security/lsm").exists() else None
    except OSError:
        return None
    return Demand.NOTHING if "[none]" in lockdown.split() else Demand.LOCKDOWN


def read_verified(module: str, root: Path = ROOT) -> bool | None:
    """Whether the kernel verified the signature of a loaded module when it loaded it; None where it does not tell.

    It taints a module that it could not verify with TAINT_UNSIGNED_MODULE, "E" (module_augment_kernel_taints in
    kernel/module/main.c), if it was built with CONFIG_MODULE_SIG, and has the parameter sig_enforce only then.
    Kernels before commit 0c18f29aae7c ("module: limit enabling module.sig_enforce", v5.13 and the stable kernels of
    its time) have the parameter in any case; one of these without CONFIG_MODULE_SIG passes for having verified all.
    """
    folder = root / "sys/module"
    if not (folder / "module/parameters/sig_enforce").exists():
        return None
    try:
        return "E" not in (folder / module / "taint").read_text(encoding="ascii")
    except OSError:
        return None
