# SPDX-License-Identifier: GPL-2.0-or-later
"""The cgroup that a service runs in, as BPF programs know it (bpf_get_current_cgroup_id, bpf-helpers(7))."""

from __future__ import annotations

from pathlib import Path


def service_cgroup(root: Path = Path("/")) -> int:
    """The id of the cgroup of the service that this process is; 0 where it is none, or has none of version 2.

    A process that somebody started in a session shares its cgroup with whatever else runs there.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        for line in lines:
            hierarchy, _controllers, path = line.split(":", 2)
            if hierarchy == "0" and path.endswith(".service"):
                return _mount(root).joinpath(path.lstrip("/")).stat().st_ino
    except OSError:
        return 0
    return 0


def _mount(root: Path) -> Path:
    """Where version 2 is mounted: beside version 1 it has a directory of its own (cgroups(7))."""
    hybrid = root / "sys/fs/cgroup/unified"
    return hybrid if hybrid.is_dir() else root / "sys/fs/cgroup"
