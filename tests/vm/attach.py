# SPDX-License-Identifier: GPL-2.0-or-later
"""Joins a command in the guest to this process's own standard streams, or to its terminal."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import termios
import threading
import tty
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from tests.vm.errors import CommandTimeout, HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.vm.channel import RemoteCommand
    from tests.vm.host import Host

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2


def attached(host: Host, command: Sequence[str], *, terminal: bool, timeout: float | None = None) -> int:
    """Run ``command`` with our input as its input and its output as ours; give its status as a shell would.

    Raises CommandTimeout after ``timeout`` seconds, HostDied, and HarnessError where it cannot be started.
    """
    outputs = {_STDOUT: _Output(_STDOUT), _STDERR: _Output(_STDERR)}
    running = host.spawn(
        command,
        terminal=_size() if terminal else None,
        env={"TERM": os.environ.get("TERM", "dumb")},
        on_stdout=outputs[_STDOUT].write,
        on_stderr=outputs[_STDERR].write,
    )
    with ExitStack() as stack:
        if terminal:
            stack.enter_context(_resized(running))
        if os.isatty(_STDIN) and terminal:
            stack.enter_context(_raw())
        if os.isatty(_STDIN) and not terminal:
            running.close_stdin()
        else:
            threading.Thread(target=_feed, args=[running], daemon=True).start()
        try:
            status = _wait(running, timeout)
        except CommandTimeout as error:
            running.kill()
            raise CommandTimeout(f"`{' '.join(command)}` took more than {timeout:g} s and was killed") from error
    return status if status >= 0 else 128 - status


class _Output:
    """One of our output streams.  When nobody reads it any more the rest is dropped, as it would be by SIGPIPE."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._open = True

    def write(self, data: bytes) -> None:
        while data and self._open:
            try:
                data = data[os.write(self._file, data) :]
            except BrokenPipeError:
                self._open = False


def _feed(running: RemoteCommand) -> None:
    """Pass our input on to the command, on a thread of its own; ends when either ends."""
    try:
        while data := os.read(_STDIN, 32 * 1024):
            running.write(data)
        running.close_stdin()
    except HarnessError:  # the waiting thread meets the same error, and reports it
        return


def _wait(running: RemoteCommand, timeout: float | None) -> int:
    try:
        return running.wait(timeout)
    except KeyboardInterrupt:
        running.signal(signal.SIGINT)
    return running.wait(timeout)


def _size() -> tuple[int, int]:
    size = shutil.get_terminal_size()
    return size.lines, size.columns


@contextmanager
def _resized(running: RemoteCommand) -> Iterator[None]:
    """Tell the command when our terminal changes its size."""
    before = signal.signal(signal.SIGWINCH, lambda _number, _frame: running.resize(*_size()))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


@contextmanager
def _raw() -> Iterator[None]:
    """Let every key go through to the guest; its terminal echoes and edits."""
    before = termios.tcgetattr(_STDIN)
    tty.setraw(_STDIN, termios.TCSADRAIN)  # and keep what was typed ahead
    try:
        yield
    finally:
        sys.stdout.flush()
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)
