# SPDX-License-Identifier: GPL-2.0-or-later
"""A running test host as tests see it: commands, files, console.  boot.py starts one."""

from __future__ import annotations

import io
import shlex
import tarfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Self

from tests.vm.errors import CommandFailed, CommandTimeout, HarnessError
from tests.vm.image import owned_by_root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from tests.vm.channel import RemoteCommand
    from tests.vm.qemu import Qemu

TIMEOUT: Final = 120.0  # seconds; emulation is slow, and whoever waits for nothing says so
REBOOT_SECONDS: Final = 180.0  # to shut down, and as many again to boot: a unit may take 90 to stop


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended.  ``returncode`` as subprocess counts: -N where signal N killed it."""

    returncode: int
    stdout: str
    stderr: str


class Host:
    """A machine of its own, with a kernel that nobody else uses; gone when the ``with`` block ends."""

    def __init__(self, qemu: Qemu, resources: ExitStack | None = None) -> None:
        self._qemu = qemu
        self._resources = resources if resources is not None else ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Switch the machine off, as by its power button held down."""
        self._resources.close()

    def run(
        self,
        command: str | Sequence[str],
        *,
        user: str = "root",
        timeout: float = TIMEOUT,
        stdin: str | bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = False,
    ) -> Finished:
        """Run a command (a string is the shell's) in ``user``'s home, or ``cwd``, to its end.

        Raises CommandTimeout after ``timeout`` seconds, having killed it; CommandFailed where ``check`` is set and the
        status is not 0; HostDied where the machine does not survive it.
        """
        words = _words(command)
        running = self.spawn(command, user=user, cwd=cwd, env=env)
        try:
            running.write(stdin.encode() if isinstance(stdin, str) else stdin, timeout)
            running.close_stdin()
            status = running.wait(timeout)
        except CommandTimeout as error:
            running.kill()
            raise CommandTimeout(f"`{shlex.join(words)}` took more than {timeout:g} s{_said(running)}") from error
        if check and status != 0:
            raise CommandFailed(f"`{shlex.join(words)}` ended with {status}{_said(running)}")
        return Finished(status, running.stdout.decode(errors="replace"), running.stderr.decode(errors="replace"))

    def spawn(
        self,
        command: str | Sequence[str],
        *,
        user: str = "root",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        terminal: tuple[int, int] | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
    ) -> RemoteCommand:
        """Start a command and leave it running.

        With ``terminal`` (rows, columns) it has a terminal instead of three pipes.  Its output is kept, or handed to
        the functions as it comes.
        """
        return self._qemu.agent.start(
            {
                "argv": _words(command),
                "user": user,
                "cwd": cwd,
                "env": dict(env or {}),
                "tty": None if terminal is None else list(terminal),
            },
            on_stdout=on_stdout,
            on_stderr=on_stderr,
        )

    def reboot(self) -> str:
        """Shut down and boot again, with all that is on the disk: how the boot ended (systemctl is-system-running).

        Kernel and command line are the same; commands that still run are lost.  Raises HarnessError where the host
        does not shut down, or is not back, in REBOOT_SECONDS, and CommandTimeout where its boot does not end.
        """
        with self._qemu.may_reset():
            self.spawn(["systemctl", "reboot"])
            self._qemu.wait_for_reset(REBOOT_SECONDS)
            if not self._qemu.agent.greet(REBOOT_SECONDS):
                raise HarnessError(f"the host did not come back in {REBOOT_SECONDS:g} s; {self.last_words()}")
        self._qemu.agent.set_clock()
        return self.run("systemctl is-system-running --wait", timeout=REBOOT_SECONDS).stdout.strip()

    def put(self, local: Path | str, remote: str) -> None:
        """Copy a file, or a folder with all that is in it, to the path ``remote``; root owns the copy."""
        target = PurePosixPath(remote)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(local, target.name, filter=owned_by_root)
        self.unpack(packed.getvalue(), str(target.parent))

    def unpack(self, archive: bytes, folder: str) -> None:
        """Unpack a tar archive into ``folder``, which is made if need be."""
        script = 'mkdir -p "$1" && exec tar --extract --keep-directory-symlink --directory "$1"'
        self.run(["sh", "-c", script, "unpack", folder], stdin=archive, check=True)

    def write(self, remote: str, data: bytes) -> None:
        """Make ``data`` the content of the file ``remote``."""
        self.run(["sh", "-c", 'cat > "$1"', "write", remote], stdin=data, check=True)

    def read(self, remote: str) -> bytes:
        """The content of the file ``remote``."""
        reader = self.spawn(["cat", remote])
        if reader.wait(TIMEOUT) != 0:
            raise CommandFailed(reader.stderr.decode(errors="replace").strip())
        return reader.stdout

    def console(self) -> str:
        """What the kernel and systemd wrote to the serial console."""
        return self._qemu.console()

    def last_words(self) -> str:
        """The end of the console and what QEMU said, for errors and reports."""
        return self._qemu.last_words()


def _words(command: str | Sequence[str]) -> list[str]:
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


def _said(command: RemoteCommand) -> str:
    """What a failed command has put out, for an error's text."""
    parts = (("stdout", command.stdout), ("stderr", command.stderr))
    return "".join(f"\n--- {name}:\n{data.decode(errors='replace').rstrip()}" for name, data in parts if data)
