# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian of packages, made by mmdebstrap: the guest's root, and what builds modules that this machine cannot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from tests.vm.command import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_OPTIONS: Final = (
    "--variant=essential",
    "--format=tar",
    '--aptopt=Apt::Install-Recommends "false"',
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "locale", "man")),
)
_UNSHARE_HINT: Final = (
    "As an ordinary user it needs unprivileged user namespaces, a line for you in /etc/subuid and in /etc/subgid, and "
    "300 MB in $TMPDIR, or /tmp, which everybody must be able to enter."
)


def bootstrap(folder: Path, suite: str, sources: Sequence[str], packages: Sequence[str], *options: str) -> Path:
    """Make an archive of `suite` with the packages, from the sources, in the folder; raises HarnessError."""
    (folder / "sources.list").write_text("\n".join(sources) + "\n")
    arguments = [*_OPTIONS, *options, f"--include={','.join(packages)}", suite, f"{folder}/root.tar"]
    arguments.append(f"{folder}/sources.list")
    if os.geteuid() == 0:
        run(["mmdebstrap", "--mode=root", *arguments], env={"TMPDIR": str(folder)})
    else:
        # The namespace's root is nobody's friend outside of it and cannot enter a user's home: it works in /tmp.
        run(["mmdebstrap", "--mode=unshare", *arguments], hint=_UNSHARE_HINT)
    return folder / "root.tar"
