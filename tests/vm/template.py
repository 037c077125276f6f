# SPDX-License-Identifier: GPL-2.0-or-later
"""Saved machines: a host is booted once, and each test starts from what was saved then.

A template is a folder with the guest's memory (a file that QEMU maps), its disk (`disk`, a qcow2 layer over `image`,
which is a hard link to the disk of all templates of the same root) and the state of its processors and devices.  All
belong together: they are of the same instant.  Restoring maps the memory copy-on-write, so that it takes a fraction
of a second and any number of hosts can share one template.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.vm import guest, image, initrd, kernel
from tests.vm.accel import Accel, qemu_stamp
from tests.vm.cache import digest, source
from tests.vm.command import run
from tests.vm.errors import HarnessError
from tests.vm.host import Host
from tests.vm.qemu import Machine, Qemu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.vm.cache import Cache
    from tests.vm.kernel import Kernel

BOOT_SECONDS: Final = {Accel.KVM: 60, Accel.TCG: 300}
RESTORE_SECONDS: Final = 30
# mitigations=off: translated code is slow enough.  oops=panic: a test that damages the kernel must not pass.
KERNEL_ARGUMENTS: Final = (
    f"root=/dev/vda rw console={guest.CONSOLE} quiet panic=-1 oops=panic mitigations=off random.trust_cpu=on "
    "rcupdate.rcu_expedited=1 systemd.show_status=0"
)
_KEEP: Final = 16  # the tests ask for four kernels and several command lines, and each has templates of its own


class NoAgent(HarnessError):
    """A booted guest did not answer."""


@dataclass(frozen=True, slots=True)
class Boots:
    """What the machine boots when it is switched on, and each time that it reboots."""

    image: Path
    ramdisk: Path
    append: str

    def arguments(self) -> list[str]:
        """QEMU's arguments."""
        return ["-kernel", str(self.image), "-initrd", str(self.ramdisk), "-append", self.append]


@dataclass(frozen=True, slots=True)
class Template:
    """A saved machine and the key of all that went into it."""

    folder: Path
    key: str
    machine: Machine
    boots: Boots


def boot(
    cache: Cache, which: Kernel, machine: Machine, kernel_arguments: tuple[str, ...], say: Callable[[str], None]
) -> Template:
    """A template of a host that has just booted, without klpd."""
    unpacked = kernel.unpack(cache, which)
    disk, disk_key = image.build(cache, unpacked, say)
    ramdisk = initrd.build(cache, unpacked)
    boots = Boots(unpacked.image, ramdisk, " ".join((KERNEL_ARGUMENTS, *kernel_arguments)))
    key = digest(source(__file__), _machine_key(machine), disk_key, ramdisk.parent.name, boots.append)

    def build(folder: Path) -> None:
        say("booting the test host" + ("" if machine.accel is Accel.KVM else " (under emulation: about ten seconds)"))
        os.link(disk, folder / "image")
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "image", "disk"], cwd=folder)
        arguments = [
            *machine.arguments(ram=folder / "ram", disk=folder / "disk", throw_away=False),
            *boots.arguments(),
        ]
        with _running(arguments, folder.parent) as qemu:
            if not qemu.agent.greet(BOOT_SECONDS[machine.accel]):
                raise NoAgent(f"the test host did not boot in {BOOT_SECONDS[machine.accel]} s; {qemu.last_words()}")
            host = Host(qemu)
            _settle(host)
            _save(host, qemu, folder)

    return Template(cache.get("booted", key, build, keep=_KEEP), key, machine, boots)


def derive(cache: Cache, parent: Template, kind: str, key: str, change: Callable[[Host], None]) -> Template:
    """The template that ``change``, whose key is ``key``, makes of ``parent``."""
    key = digest(parent.key, kind, key)

    def build(folder: Path) -> None:
        with cache.using(parent.folder):
            os.link(parent.folder / "image", folder / "image")
            run(["cp", "--sparse=always", parent.folder / "disk", parent.folder / "ram", folder])
            arguments = [
                *parent.machine.arguments(ram=folder / "ram", disk=folder / "disk", throw_away=False),
                *parent.boots.arguments(),
                *("-incoming", "defer", "-S"),
            ]
            with _running(arguments, folder.parent) as qemu:
                _load(qemu, parent)
                host = Host(qemu)
                change(host)
                _save(host, qemu, folder)

    return Template(cache.get(kind, key, build, keep=_KEEP), key, parent.machine, parent.boots)


def restore(cache: Cache, template: Template, folder: Path) -> Qemu:
    """A running host from a template; ``folder`` is for its temporary files."""
    with cache.using(template.folder):
        arguments = [
            *template.machine.arguments(ram=template.folder / "ram", disk=template.folder / "disk", throw_away=True),
            *template.boots.arguments(),
            *("-incoming", "defer", "-S"),
        ]
        qemu = Qemu(arguments, folder)
        try:
            _load(qemu, template)
        except BaseException:
            qemu.close()
            raise
        return qemu


def _settle(host: Host) -> None:
    """Wait until the boot is over, and run once what every test needs: it stays in the saved memory."""
    state = host.run("systemctl is-system-running --wait").stdout.strip()
    if state != "running":
        failed = host.run("systemctl --no-pager --failed; journalctl --no-pager --boot --priority warning").stdout
        raise HarnessError(f"the test host's boot ended as {state!r}:\n{failed}")
    host.run("systemctl start polkit && busctl --no-pager list && journalctl --no-pager --lines 1", check=True)
    host.run(["python3", "-c", "import gi.repository.Gio, pydbus, pyudev, elftools, systemd.journal"], check=True)


def _save(host: Host, qemu: Qemu, folder: Path) -> None:
    host.run("sync", check=True)
    qemu.monitor.save(folder / "state")
    qemu.quit()


def _machine_key(machine: Machine) -> list[str]:
    """What a saved state depends on besides the guest; under KVM the processor is this machine's own."""
    processor = ""
    if machine.accel is Accel.KVM:
        text = Path("/proc/cpuinfo").read_text()
        processor = "\n".join(re.findall(r"^(?:model name|flags)\b.*", text.partition("\n\n")[0], re.MULTILINE))
    arguments = machine.arguments(ram=Path("ram"), disk=Path("disk"), throw_away=True)
    return [qemu_stamp(), processor, *arguments]


def _load(qemu: Qemu, template: Template) -> None:
    qemu.monitor.load(template.folder / "state")
    qemu.agent.set_clock()
    if not qemu.agent.greet(RESTORE_SECONDS):
        raise NoAgent(f"the restored test host does not answer; {qemu.last_words()}")


@contextmanager
def _running(arguments: list[str], folder: Path) -> Iterator[Qemu]:
    """A QEMU for the time of a build."""
    qemu = Qemu(arguments, folder)
    try:
        yield qemu
    finally:
        qemu.close()
