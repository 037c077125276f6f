# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells of a thread."""

from __future__ import annotations

import errno
import os
import platform
from typing import TYPE_CHECKING

import pytest

from klpd.errors import KernelError
from klpd.kernel.threads import Thread, check_access, is_loading, read_thread

if TYPE_CHECKING:
    from pathlib import Path

TID = 7


def proc(folder: Path, **files: str) -> Path:
    (folder / str(TID)).mkdir()
    for name, text in files.items():
        (folder / str(TID) / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("machine", "number"),
    [("x86_64", 313), ("x86_64", 350), ("x86_64", 0x40000139), ("aarch64", 273), ("aarch64", 379), ("s390x", 344)],
)
def test_a_thread_in_finit_module_is_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, number: int
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert is_loading(TID, proc(tmp_path, syscall=f"{number} 0x3 0x55 0x0 0x0 0x0 0x0 0x7ffd 0x7f00\n"))


@pytest.mark.parametrize("text", ["0 0x3 0x7f 0x1000 0x0 0x0 0x0 0x7ffd 0x7f00\n", "-1 0x7ffd 0x7f00\n"])
def test_a_thread_in_another_call_or_in_none_is_not(tmp_path: Path, text: str) -> None:
    assert is_loading(TID, proc(tmp_path, syscall=text)) is False


def test_of_a_thread_that_runs_it_cannot_be_told(tmp_path: Path) -> None:
    assert is_loading(TID, proc(tmp_path, syscall="running\n")) is None


def test_a_thread_that_is_gone_loads_nothing_and_is_nobody(tmp_path: Path) -> None:
    assert is_loading(TID, tmp_path) is False
    with pytest.raises(KernelError, match="cannot read") as raised:
        read_thread(TID, tmp_path)
    assert raised.value.errno == errno.ENOENT


def test_a_call_that_may_not_be_seen_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(_path: Path) -> bytes:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(type(tmp_path), "read_bytes", forbid)
    with pytest.raises(KernelError, match="not permitted"):
        is_loading(TID, tmp_path)


def test_a_thread_is_known_by_its_process_its_user_and_a_name_that_no_terminal_obeys(tmp_path: Path) -> None:
    text = "Name:\tins\x1bmod\nUmask:\t0022\nTgid:\t5\nPid:\t7\nUid:\t1000\t0\t0\t0\n"
    thread = read_thread(TID, proc(tmp_path, status=text))
    assert thread == Thread(TID, 5, 1000, "ins\N{REPLACEMENT CHARACTER}mod")


def test_this_thread_is_found_in_the_real_proc() -> None:
    assert read_thread(os.getpid()).pid == os.getpid()


def test_where_other_processes_calls_cannot_be_seen_that_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KernelError):
        check_access(tmp_path)
