# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's switches are read as, and where the root cgroup is looked for."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

import pytest

from klpd.errors import KernelError
from klpd.kernel.mounts import cgroup_roots
from klpd.kernel.switches import (
    addresses_are_hidden,
    ftrace_is_off,
    memory_is_confidential,
    modules_are_disabled,
)

SHOWN: Final = "0000000000000000 A fixed_percpu_data\n0000000000001000 A cpu_debug_store\nffffffff81000000 T _text\n"
HIDDEN: Final = "0000000000000000 A fixed_percpu_data\n0000000000000000 A cpu_debug_store\n0000000000000000 T _text\n"


def put(root: Path, file: str, text: str) -> Path:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return root


@pytest.mark.parametrize(("text", "off"), [("0\n", True), ("1\n", False)])
def test_ftrace_is_off_at_0(tmp_path: Path, text: str, *, off: bool) -> None:
    assert ftrace_is_off(put(tmp_path, "ftrace_enabled", text) / "ftrace_enabled") is off


def test_a_switch_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="ftrace_enabled") as caught:
        ftrace_is_off(tmp_path / "ftrace_enabled")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize(("text", "disabled"), [("0\n", False), ("1\n", True)])
def test_modules_are_disabled_at_1(tmp_path: Path, text: str, *, disabled: bool) -> None:
    assert modules_are_disabled(put(tmp_path, "proc/sys/kernel/modules_disabled", text)) is disabled


def test_a_kernel_that_says_nothing_of_modules_has_not_disabled_them(tmp_path: Path) -> None:
    assert not modules_are_disabled(tmp_path)


@pytest.mark.parametrize(("text", "hidden"), [(SHOWN, False), (HIDDEN, True), ("", True)], ids=["shown", "0", "none"])
def test_addresses_are_hidden_where_all_are_0(tmp_path: Path, text: str, *, hidden: bool) -> None:
    assert addresses_are_hidden(put(tmp_path, "proc/kallsyms", text)) is hidden


def test_addresses_that_cannot_be_read_are_hidden(tmp_path: Path) -> None:
    assert addresses_are_hidden(tmp_path)


@pytest.mark.parametrize(
    ("line", "points"),
    [
        ("30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate", ("/sys/fs/cgroup",)),
        ("31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", ("/sys/fs/cgroup/unified",)),
        (r"32 20 0:26 / /mnt/with\040space rw - cgroup2 none rw", ("/mnt/with space",)),
        ("33 20 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw", ()),
        ("34 20 0:26 /system.slice /mnt rw - cgroup2 cgroup2 rw", ()),
        ("35 20 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", ()),
    ],
    ids=["unified", "hybrid", "escaped", "namespace", "below", "legacy"],
)
def test_the_root_cgroup_is_where_the_unified_hierarchy_is_mounted_whole(line: str, points: tuple[str, ...]) -> None:
    assert cgroup_roots(line.encode()) == tuple(Path(each) for each in points)


@pytest.mark.parametrize(
    ("text", "confidential"),
    [("none integrity [confidentiality]\n", True), ("none [integrity] confidentiality\n", False)],
)
def test_memory_is_confidential_at_the_highest_lockdown(tmp_path: Path, text: str, *, confidential: bool) -> None:
    assert memory_is_confidential(put(tmp_path, "sys/kernel/security/lockdown", text)) is confidential


def test_where_no_lockdown_is_to_be_seen_there_is_none(tmp_path: Path) -> None:
    assert not memory_is_confidential(tmp_path)
