# SPDX-License-Identifier: GPL-2.0-or-later
"""Loaders in a host that do what insmod does not: in_guest/loaders.py, from here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.host import Host

_SCRIPT: Final = Path(__file__).parent / "in_guest" / "loaders.py"
_THERE: Final = "/root/loaders.py"
_PATIENCE: Final = 60.0


def put_loaders(host: Host) -> None:
    """Put the script into root's home."""
    host.put(_SCRIPT, _THERE)


def loaders(host: Host, step: str, *arguments: str) -> Any:  # noqa: ANN401
    """Take a step of in_guest/loaders.py; what it tells."""
    put_loaders(host)
    return json.loads(host.run(f"python3 -I {_THERE} {step} {' '.join(arguments)}", check=True).stdout)


def load_when(host: Host, path: str, happens: Callable[[], object]) -> str:
    """Have a process open a file, let something happen, and have it load what it opened: "ok", or the error's name."""
    put_loaders(host)
    loader = host.spawn(f"exec python3 -I {_THERE} load-when {path} /root/opened /root/go")
    host.run("until [ -e /root/opened ]; do sleep 0.05; done", check=True, timeout=_PATIENCE)
    happens()
    host.run("touch /root/go", check=True)
    assert loader.wait(_PATIENCE) == 0
    return str(json.loads(loader.stdout))
