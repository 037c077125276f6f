# SPDX-License-Identifier: GPL-2.0-or-later
"""The program klpctl."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # Before anything else is imported: Ctrl-C is to end klpctl without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import sys
from typing import TYPE_CHECKING, Final

from klpd.ctl.cli import parse
from klpd.errors import ExitStatus, KlpdError, PolicyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from klpd.ctl.console import Console
    from klpd.ctl.requests import CommandLine
    from klpd.ctl.service import Service

_BROKEN_PIPE: Final = 141
"""The exit status of a program whose reader went away, as shells have it: 128 + SIGPIPE."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run klpctl with these arguments (None: the process's); its exit status (klpd.errors.ExitStatus)."""
    command_line = parse(argv)

    from klpd.ctl.console import Console

    _prepare_process()
    console = Console(sys.stdin, sys.stdout, sys.stderr, os.environ)
    try:
        status = _run(command_line, console)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whatever is still in the buffer has no reader; the interpreter would complain when it flushes it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as error:
        if command_line.debug:
            import traceback

            traceback.print_exc()
        return _told(console, error)
    return status


def _run(command_line: CommandLine, console: Console) -> int:
    if command_line.host:
        from klpd.ctl.remote import run_there

        return run_there(command_line, os.environ, terminal=console.attended)

    from klpd.ctl.commands import run
    from klpd.ctl.context import Context
    from klpd.ctl.local import ThisMachine
    from klpd.ctl.password import PasswordAgent

    may_ask = command_line.ask_password
    agent = PasswordAgent() if may_ask and os.geteuid() != 0 and sys.stdin.isatty() else None

    def connect() -> Service:
        from klpd.ctl.client import BusService

        return BusService(agent, may_ask=may_ask)

    try:
        return run(command_line.request, Context(console, connect, ThisMachine(), json=command_line.json))
    finally:
        if agent is not None:
            agent.close()


def _told(console: Console, error: Exception) -> int:
    """The exit status for an error, once it has been told."""
    from klpd.ctl.service import RemoteError, exit_status_of

    if not isinstance(error, KlpdError):
        console.complain(f"an error of klpctl's own, {type(error).__name__}: {error}; --debug shows where")
        return ExitStatus.FAILED
    for each in error.all if isinstance(error, PolicyError) else (error,):
        # What comes over the bus may tell of several things.
        for line in str(each).splitlines():
            console.complain(line)
    return exit_status_of(error.name) if isinstance(error, RemoteError) else error.exit_status


def _prepare_process() -> None:
    # Blocking calls into GLib do not let Python see Ctrl-C; following a job takes SIGINT over for a while.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
