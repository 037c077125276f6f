# SPDX-License-Identifier: GPL-2.0-or-later
"""The manifest that an author begins with: bound to the module, and with everything else to be filled in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from klpd.policy.beside import manifest_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.model import Livepatch


def first_manifest(livepatch: Livepatch, file: str) -> str:
    """A manifest for the livepatch in `file`, the module's; it checks, and says nothing of states yet."""
    return "".join(f"{line}\n" for line in _lines(livepatch, file.rsplit("/", 1)[-1]))


def _lines(livepatch: Livepatch, name: str) -> Iterator[str]:
    yield f"# What {_printable(name)} changes, for klpd; klpd-livepatch(5) explains every key."
    yield f"# It counts beside the module as {_printable(manifest_path(name))}, root's, or in /etc/klpd/livepatches.d."
    yield ""
    yield "[livepatch]"
    yield f'sha256 = "{livepatch.digest}"'
    if livepatch.build_id is not None:
        yield f'build-id = "{livepatch.build_id}"'
    title = livepatch.description or ""
    yield f"title = {_string(title)}" if title.strip() and title.isprintable() else '# title = "What it is about"'
    yield '# fixes = ["CVE-2026-12345"]'
    yield ""
    yield from _functions(livepatch)
    yield "# If it changes no system state, say so above:"
    yield "# stateless = true"
    yield "# Else each state that it changes has a table:"
    for state in livepatch.states or ():
        yield ""
        yield "# The module carries this one itself; what a klp_state cannot say may be said here."
        yield from _state(f"{state.id:#x}", str(state.version))
    if not livepatch.states:
        yield ""
        yield from _state("0x1001", "1")


def _functions(livepatch: Livepatch) -> Iterator[str]:
    for each in livepatch.objects or ():
        yield f"# It replaces in {_printable(each.name)}:"
        for function in each.functions:
            yield f"#   {_printable(function.name)}"
    if livepatch.objects:
        yield ""


def _state(state_id: str, version: str) -> Iterator[str]:
    yield "# [[state]]"
    yield f"# id = {state_id}"
    yield f"# version = {version}"
    yield "# sticky = false      # whether it is to stay once it is in"
    yield "# restores = false    # whether reversing the transition restores its older version"


def _string(text: str) -> str:
    """A TOML string: printable text is escaped as in JSON."""
    return json.dumps(text, ensure_ascii=False)


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)
