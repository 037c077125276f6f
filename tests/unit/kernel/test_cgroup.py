# SPDX-License-Identifier: GPL-2.0-or-later
"""By which id BPF programs know the service that klpd is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.kernel.cgroup import service_cgroup

if TYPE_CHECKING:
    from pathlib import Path

UNIT = "system.slice/klpd.service"


def _machine(root: Path, lines: str, mount: str = "sys/fs/cgroup") -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    (root / mount / UNIT).mkdir(parents=True)
    return root / mount / UNIT


def test_it_is_the_inode_of_the_services_directory(tmp_path: Path) -> None:
    folder = _machine(tmp_path, f"0::/{UNIT}\n")
    assert service_cgroup(tmp_path) == folder.stat().st_ino


def test_beside_version_1_it_is_the_one_of_version_2(tmp_path: Path) -> None:
    lines = f"4:memory:/{UNIT}\n1:name=systemd:/{UNIT}\n0::/{UNIT}\n"
    folder = _machine(tmp_path, lines, "sys/fs/cgroup/unified")
    assert service_cgroup(tmp_path) == folder.stat().st_ino


@pytest.mark.parametrize(
    "lines",
    [
        "0::/user.slice/user-0.slice/session-3.scope\n",
        "0::/\n",
        f"4:memory:/{UNIT}\n",
        "0::/system.slice/gone.service\n",
    ],
    ids=["a session", "the root", "version 1 only", "not mounted here"],
)
def test_where_klpd_is_no_service_there_is_none(tmp_path: Path, lines: str) -> None:
    _machine(tmp_path, lines)
    assert service_cgroup(tmp_path) == 0
