# SPDX-License-Identifier: GPL-2.0-or-later
"""From options to a running host: finds or makes the template that fits, and restores it."""

from __future__ import annotations

import platform
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.vm import accel, install, packages, template
from tests.vm.cache import Cache, default_folder
from tests.vm.errors import HarnessError, HostDied
from tests.vm.host import Host
from tests.vm.kernel import STOCK, Kernel
from tests.vm.qemu import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.template import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What kind of host.  ``memory`` in MiB; ``klpd`` says whether it runs (it is installed in any case)."""

    kernel: Kernel = STOCK
    kernel_arguments: tuple[str, ...] = ()
    memory: int = 512
    cpus: int = 2
    klpd: bool = True


def say_on_stderr(text: str) -> None:
    """Tell whoever waits what takes so long."""
    print(f"test host: {text}", file=sys.stderr, flush=True)


def unsupported() -> str | None:
    """Why this machine can not run the test host, or None if it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"the test host runs on Linux on x86-64 only, and this is {sys.platform} on {platform.machine()}"
    return None


def boot(options: Options, say: Callable[[str], None] = say_on_stderr) -> Host:
    """A fresh host, with a kernel that has booted and done nothing since.  Raises HarnessError."""
    cache = Cache(default_folder())
    saved = prepare(cache, options, say)
    with ExitStack() as resources:
        folder = resources.enter_context(cache.scratch())
        qemu = template.restore(cache, saved, folder)
        resources.callback(qemu.close)
        return Host(qemu, resources.pop_all())


def prepare(cache: Cache, options: Options, say: Callable[[str], None]) -> Template:
    """The template of the hosts that ``options`` ask for."""
    if reason := unsupported():
        raise HarnessError(reason)
    packages.ensure(say)
    booted = _booted(cache, options, say)
    archive, key = install.staged(cache)
    installed = template.derive(cache, booted, "installed", key, install.installer(archive, say))
    if not options.klpd:
        return installed
    return template.derive(cache, installed, "running", key, install.start)


def _booted(cache: Cache, options: Options, say: Callable[[str], None]) -> Template:
    machine = Machine(accel.choose(cache), options.memory, options.cpus)
    try:
        return template.boot(cache, options.kernel, machine, options.kernel_arguments, say)
    except (template.NoAgent, HostDied):
        if machine.accel is not accel.Accel.KVM:
            raise
    say("KVM is there but boots no guest; using emulation until this machine's next boot")
    accel.distrust_kvm(cache)
    machine = Machine(accel.Accel.TCG, options.memory, options.cpus)
    return template.boot(cache, options.kernel, machine, options.kernel_arguments, say)
