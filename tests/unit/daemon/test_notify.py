# SPDX-License-Identifier: GPL-2.0-or-later
"""The service manager is told without waiting, and whoever tells it learns whether it was."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from klpd.daemon.notify import notify

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_without_a_service_manager_there_is_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify("READY=1")


def test_one_that_reads_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "manager"))
        assert notify("READY=1", "STATUS=well")
        assert manager.recv(100) == b"READY=1\nSTATUS=well"


def test_one_that_does_not_read_keeps_nobody_and_that_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "manager"))
        assert not all(notify("WATCHDOG=1") for _each in range(10_000))
        manager.recv(100)
        assert notify("READY=1")


def test_one_that_is_not_there_is_not_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify("READY=1")
