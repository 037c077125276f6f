# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent and the harness's channel, joined by a socket pair instead of a virtual machine."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.vm.agent import Request
from tests.vm.channel import Channel
from tests.vm.errors import HarnessError, HostDied

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
SERVE = "import sys; from tests.vm.agent import Agent; Agent(int(sys.argv[1])).serve()"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the agent changes users, which takes root")


@pytest.fixture
def agent() -> Iterator[tuple[Channel, subprocess.Popen[bytes]]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with theirs:
        argv = [sys.executable, "-c", SERVE, str(theirs.fileno())]
        process = subprocess.Popen(argv, cwd=PROJECT, pass_fds=[theirs.fileno()])
    channel = Channel(ours, lambda: "its last words")
    with process:
        assert channel.greet(30)
        yield channel, process
        process.kill()
        channel.close()


@pytest.fixture
def channel(agent: tuple[Channel, subprocess.Popen[bytes]]) -> Channel:
    return agent[0]


def shell(script: str, **changes: object) -> Request:
    request = Request(argv=["sh", "-c", script], user=pwd.getpwuid(0).pw_name, cwd="/", env={}, tty=None)
    return request | changes  # type: ignore[return-value]


def test_outputs_and_status_come_back(channel: Channel) -> None:
    command = channel.start(shell("echo out; echo err >&2; exit 9"))
    assert command.wait(30) == 9
    assert (command.stdout, command.stderr) == (b"out\n", b"err\n")


def test_much_input_that_is_read_late_arrives_whole(channel: Channel) -> None:
    command = channel.start(shell("sleep 0.2; sha256sum; cat >&2"))
    command.write(bytes(3_000_000), 30)
    command.close_stdin()
    assert command.wait(30) == 0
    expected = subprocess.run(["sha256sum"], check=True, input=bytes(3_000_000), capture_output=True).stdout
    assert command.stdout == expected


def test_input_to_a_command_that_has_ended_goes_nowhere(channel: Channel) -> None:
    command = channel.start(shell("exit 0"))
    assert command.wait(30) == 0
    command.write(bytes(1_000_000), 30)
    assert channel.start(shell("exit 3")).wait(30) == 3


def test_all_output_comes_although_a_child_keeps_the_pipe_open(channel: Channel) -> None:
    command = channel.start(shell("sleep 5 & head -c 3000000 /dev/zero"))
    assert command.wait(30) == 0
    assert len(command.stdout) == 3_000_000


def test_one_command_that_floods_does_not_stop_another(channel: Channel) -> None:
    flood = channel.start(shell("exec cat /dev/zero"), on_stdout=lambda _: None)
    assert channel.start(shell("echo through")).wait(30) == 0
    flood.kill()
    assert flood.wait(30) == -9


def test_a_terminal_is_the_commands_own(channel: Channel) -> None:
    command = channel.start(shell("stty size; exec 3</dev/tty && echo mine", tty=[12, 34]))
    assert command.wait(30) == 0
    assert command.stdout == b"12 34\r\nmine\r\n"


@pytest.mark.parametrize(
    "changes",
    [{"argv": ["/nothing"]}, {"user": "nobody-here"}, {"cwd": "/nothing"}, {"tty": [1, 1], "argv": ["/nothing"]}],
)
def test_what_cannot_be_started_is_refused(channel: Channel, changes: dict[str, object]) -> None:
    with pytest.raises(HarnessError, match="could not start"):
        channel.start(shell("true", **changes)).wait(30)


def test_commands_learn_that_the_agent_is_gone(agent: tuple[Channel, subprocess.Popen[bytes]]) -> None:
    channel, process = agent
    waiting = channel.start(shell("exec cat"))
    process.kill()
    with pytest.raises(HostDied, match="its last words"):
        waiting.wait(30)
    process.wait()
    with pytest.raises(HostDied, match="its last words"):
        channel.start(shell("true")).wait(30)
