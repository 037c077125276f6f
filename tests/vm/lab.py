# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps with the guard and the readers in a host whose daemon is stopped: in_guest/guard_lab.py, from here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.livepatches import evasions, sections
from tests.livepatches.build import build
from tests.vm import kernel
from tests.vm.cache import Cache, default_folder
from tests.vm.host import TIMEOUT

if TYPE_CHECKING:
    from tests.vm.host import Host

_SCRIPT: Final = Path(__file__).parent / "in_guest" / "guard_lab.py"
_THERE: Final = "/root/guard_lab.py"


class Lab:
    """Each step is a new process in the host, and gives what it told, as JSON has it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.release = host.run("uname --kernel-release", check=True).stdout.strip()
        host.put(_SCRIPT, _THERE)
        for each in (evasions, sections):
            name = f"{each.__name__.replace('.', '/')}.py"
            host.put(str(each.__file__), f"/usr/lib/python3/dist-packages/{name}")

    def __call__(self, step: str, *arguments: object, timeout: float = TIMEOUT) -> Any:  # noqa: ANN401
        """Take a step.  Raises CommandFailed where it fails, which no step should."""
        command = ["python3", "-I", _THERE, step, *map(str, arguments)]
        return json.loads(self.host.run(command, check=True, timeout=timeout).stdout)

    def livepatch(self, name: str) -> str:
        """Copy a test livepatch into the host; its path there."""
        return self.file(name, self.livepatch_bytes(name))

    def livepatch_bytes(self, name: str) -> bytes:
        """A test livepatch's file for this host's kernel."""
        return build(release=self.release)[name].read_bytes()

    def file(self, name: str, data: bytes) -> str:
        """Make a file in the host; its path there."""
        path = f"/root/{name}.ko"
        self.host.write(path, data)
        return path

    def load(self, way: str, path: str) -> str:
        """Load the module in a host's file: "ok", or the name of the error."""
        (answer,) = self("load", way, path).values()
        return str(answer)

    def settle(self) -> None:
        """Wait until no transition runs."""
        self.host.run("while grep -qs 1 /sys/kernel/livepatch/*/transition; do sleep 0.1; done", check=True)

    def take_out(self, name: str) -> None:
        """Disable a livepatch, wait for it, and remove its module."""
        enabled = f"/sys/kernel/livepatch/{name}/enabled"
        script = f"echo 0 > {enabled} && while test -e {enabled}; do sleep 0.1; done; sleep 0.2; rmmod {name}"
        self.host.run(script, check=True)


def livepatch_bytes(name: str) -> bytes:
    """A test livepatch's file for the usual kernel, without a host."""
    return build(release=kernel.release(Cache(default_folder()), kernel.STOCK))[name].read_bytes()
