# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent that asks for passwords, played by a shell script."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from klpd.ctl.password import PasswordAgent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first folder of $PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def agent() -> Iterator[PasswordAgent]:
    agent = PasswordAgent()
    yield agent
    agent.close()


def play_agent(programs: Path, *then: str) -> Path:
    """Let pkttyagent note its arguments, and do this; $fd is what it closes when it is registered."""
    noted = programs / "arguments"
    script = ["#!/bin/bash", f"echo $$ $* >> {noted}", "fd=$5", *then, ""]
    (programs / "pkttyagent").write_text("\n".join(script))
    (programs / "pkttyagent").chmod(0o755)
    return noted


def test_it_is_registered_for_this_process_before_anything_is_asked(programs: Path, agent: PasswordAgent) -> None:
    noted = play_agent(programs, "sleep 0.3", f"touch {programs}/registered", "eval exec $fd'>&-'", "exec sleep 60")
    agent.start()
    assert (programs / "registered").exists()
    pid, *arguments = noted.read_text().split()
    assert arguments[:4] == ["--process", str(os.getpid()), "--fallback", "--notify-fd"]
    agent.start()
    assert noted.read_text().count("\n") == 1, "one is enough"
    agent.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_one_that_has_ended_is_started_anew(programs: Path, agent: PasswordAgent) -> None:
    noted = play_agent(programs, "exit 1")
    agent.start()
    deadline = time.monotonic() + 10
    while noted.read_text().count("\n") < 2 and time.monotonic() < deadline:
        agent.start()
    assert noted.read_text().count("\n") >= 2


def test_where_it_is_not_installed_nothing_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, agent: PasswordAgent
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    begun = time.monotonic()
    agent.start()
    assert time.monotonic() - begun < 1
