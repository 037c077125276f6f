# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU process: the machine that it emulates, and its three lines to the harness (console, monitor, agent)."""

from __future__ import annotations

import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.vm.accel import QEMU, Accel
from tests.vm.agent import PORT_NAME
from tests.vm.channel import Channel
from tests.vm.command import environment
from tests.vm.errors import HarnessError, HostDied
from tests.vm.qmp import Monitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CONSOLE_TAIL: Final = 80  # lines
_CPU: Final = {
    Accel.KVM: "host",
    # QEMU 7.2's translator damages the flags after cmpxchg16b: kernels from 6.12 on crash under load.
    Accel.TCG: "max,cx16=off",
}
_ACCEL: Final = {Accel.KVM: "kvm", Accel.TCG: "tcg,thread=multi"}


@dataclass(frozen=True, slots=True)
class Machine:
    """The guest's hardware.  ``memory`` in MiB.  A saved state fits only the very same machine."""

    accel: Accel
    memory: int
    cpus: int

    def arguments(self, *, ram: Path, disk: Path, throw_away: bool) -> list[str]:
        """QEMU's arguments; with ``throw_away`` neither file is ever written to, and all changes are private."""
        return [
            *("-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot"),
            *("-machine", "q35,memory-backend=ram", "-accel", _ACCEL[self.accel], "-cpu", _CPU[self.accel]),
            *("-smp", str(self.cpus), "-m", str(self.memory), "-rtc", "base=utc"),
            "-object",
            f"memory-backend-file,id=ram,size={self.memory}M,mem-path={_quoted(ram)},"
            f"share={'off' if throw_away else 'on'}",
            "-drive",
            f"if=none,id=disk,format=qcow2,cache=unsafe,file={_quoted(disk)},snapshot={'on' if throw_away else 'off'}",
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-device", "virtio-serial-pci", "-device", f"virtserialport,chardev=agent,name={PORT_NAME}"),
        ]


def _quoted(path: Path) -> str:
    """A path as part of an option with commas in it."""
    return str(path).replace(",", ",,")


class Qemu:
    """A running QEMU.  ``folder`` takes its console's text and its temporary files; the caller deletes it."""

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        self._console = folder / "console"
        self._errors = folder / "errors"
        monitor, monitor_end = socket.socketpair()
        agent, agent_end = socket.socketpair()
        argv = [
            # However the harness ends, QEMU ends with it.
            *("setpriv", "--pdeathsig", "KILL", QEMU, *arguments),
            *("-serial", "file:console"),
            *("-chardev", f"socket,id=monitor,fd={monitor_end.fileno()}", "-mon", "chardev=monitor,mode=control"),
            *("-chardev", f"socket,id=agent,fd={agent_end.fileno()}"),
        ]
        with monitor_end, agent_end, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                argv,
                cwd=folder,
                env=environment({"TMPDIR": str(folder)}),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[monitor_end.fileno(), agent_end.fileno()],
                start_new_session=True,  # so that ^C is the harness's alone
            )
        self.agent = Channel(agent, self.last_words)
        try:
            self.monitor = Monitor(monitor)
        except HostDied as error:
            self.agent.close()
            self._process.wait()
            raise HostDied(f"QEMU does not start: {self._errors.read_text(errors='replace').strip()}") from error

    @contextmanager
    def may_reset(self) -> Iterator[None]:
        """Meanwhile the machine boots anew when the guest resets it.

        At any other time QEMU ends then, since a kernel that panics does so, too.  Not for one reset only: on its way
        up the firmware resets once more (SeaBIOS, tryReboot).
        """
        self.monitor.execute("set-action", reboot="reset")
        yield
        self.monitor.execute("set-action", reboot="shutdown")

    def wait_for_reset(self, timeout: float) -> None:
        """Wait until the guest has reset the machine.  Raises HarnessError after ``timeout`` seconds, and HostDied."""
        if not self.monitor.wait_for("RESET", timeout):
            raise HarnessError(f"the host did not shut down in {timeout:g} s; {self.last_words()}")
        self.agent.restart("the host was rebooted")

    def quit(self) -> None:
        """Let QEMU end in good order, with its disk written out."""
        self.monitor.execute("quit")
        self._process.wait()

    def close(self) -> None:
        """End QEMU at once."""
        self._process.kill()
        self._process.wait()
        self.monitor.close()
        self.agent.close()

    def console(self) -> str:
        """All that the guest has written to its serial console."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def last_words(self) -> str:
        """The end of the console and what QEMU itself said, for when the guest is gone."""
        console = "\n".join(self.console().splitlines()[-CONSOLE_TAIL:])
        return f"{self._errors.read_text(errors='replace')}the end of its console:\n{console}"
