# SPDX-License-Identifier: GPL-2.0-or-later
"""klpctl on another machine: the klpctl there is run over ssh(1), with the files that it needs sent along.

Descriptors, in which klpd takes files, do not travel.  So the files are copied first, into a folder that goes away with
the command, over the connection that the command uses then: whoever types a password for ssh types it once.  Standard
input stays free for the terminal, so that questions, Ctrl-C and the progress of a job are as they are here.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from klpd.ctl.files import STANDARD_INPUT, name_of, open_file
from klpd.ctl.requests import ManifestNew, PolicyCheck
from klpd.ctl.understand import files_of, is_parameter, words_of
from klpd.errors import DaemonUnavailableError, KlpdError, UsageError
from klpd.files import read_descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from klpd.ctl.requests import CommandLine

_SSH: Final = ("ssh", "-x", "-o", "LogLevel=ERROR")
_UNREACHABLE: Final = 255
"""What ssh ends with when it has no connection; klpctl never does."""
_NOT_FOUND: Final = 127
"""What a shell ends with where there is no such program."""
_INTERRUPTED: Final = 128 + signal.SIGINT
_COLOURS: Final = ("NO_COLOR", "SYSTEMD_COLORS")
_IN_FOLDER: Final = """\
folder=$1
shift
trap 'rm -rf -- "$folder"' EXIT
trap 'exit 129' HUP TERM
trap : INT
cd -- "$folder" && "$@"
exit $?
"""
"""Runs a command in a folder that goes away with it.  Ctrl-C is for the command alone."""


def run_there(command_line: CommandLine, environment: Mapping[str, str], *, terminal: bool) -> int:
    """Do on `command_line.host` what it asks for; the exit status.  `terminal`: somebody sits here.

    Raises UsageError where a file cannot be read, DaemonUnavailableError where the host cannot be reached or has no
    klpctl, and KlpdError where there is no ssh.
    """
    if isinstance(command_line.request, ManifestNew) and command_line.request.output:
        raise UsageError("--output names a file here, and with --host it would be made there; use > FILE instead")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        files = files_of(command_line.request)
        if not files:
            return _Host(command_line.host).run(_command(command_line, environment, {}), terminal=terminal)
        with _shared_connection() as options:
            host = _Host(command_line.host, options)
            names = _names(files)
            command = _command(command_line, environment, names)
            folder = host.send({**names, **_manifests(names)})
            return host.run(["sh", "-c", _IN_FOLDER, "sh", folder, *command], terminal=terminal)
    except KeyboardInterrupt:
        return _INTERRUPTED


class _Host:
    """The other machine; `options` are for ssh."""

    def __init__(self, name: str, options: Sequence[str] = ()) -> None:
        self._name = name
        self._options = options

    def send(self, names: Mapping[str, str]) -> str:
        """Copy files there, by these names; the folder that they are in."""
        contents = {file: _content(file) for file in names}
        output = self._ssh(["mktemp", "-d", "/tmp/klpctl.XXXXXXXXXX"], stdout=subprocess.PIPE).stdout
        # A shell's startup files may have said something before.
        lines = output.decode(errors="surrogateescape").split()
        if not lines:
            raise KlpdError(f"no place for files could be made on {self._name}")
        folder = lines[-1]
        for file, name in names.items():
            copy = ["sh", "-c", 'cat > "$1"', "sh", f"{folder}/{name}"]
            if self._ssh(copy, content=contents[file]).returncode != 0:
                self._ssh(["rm", "-rf", "--", folder])
                raise KlpdError(f"{file} could not be copied to {self._name}")
        return folder

    def run(self, command: Sequence[str], *, terminal: bool) -> int:
        """Run a command there; its exit status."""
        return self._ssh(command, terminal=terminal).returncode

    def _ssh(
        self, command: Sequence[str], *, content: bytes = b"", terminal: bool = False, stdout: int | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        words = [*_SSH, *self._options, "-t" if terminal else "-T", "--", self._name, shlex.join(command)]
        try:
            # Without a terminal nobody answers, and a script's standard input is not for ssh to swallow.
            done = subprocess.run(words, input=None if terminal else content, stdout=stdout, check=False)
        except FileNotFoundError:
            raise KlpdError("--host needs ssh, which is not installed here") from None
        if done.returncode == _UNREACHABLE:
            raise DaemonUnavailableError(f"{self._name} cannot be reached over ssh, or the connection broke")
        if done.returncode == _NOT_FOUND:
            raise DaemonUnavailableError(f"{self._name} has no klpctl")
        return done


@contextmanager
def _shared_connection() -> Iterator[list[str]]:
    """Options by which several runs of ssh share a connection, which ends with the block (ssh_config(5))."""
    # A socket's path may not be longer than about 100 bytes; $TMPDIR may.
    folder = tempfile.mkdtemp(prefix="klpctl-", dir="/tmp")
    socket = ["-o", f"ControlPath={folder}/ssh"]
    try:
        yield [*socket, "-o", "ControlMaster=auto", "-o", "ControlPersist=60"]
    finally:
        if os.path.exists(f"{folder}/ssh"):
            ended = [*_SSH, *socket, "-O", "exit", "--", "host"]
            subprocess.run(ended, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(folder)


def _names(files: Sequence[str]) -> dict[str, str]:
    """File -> its name there: the last part of its path, numbered where several have the same."""
    last = [os.path.basename(each) if each != STANDARD_INPUT else "standard-input" for each in files]
    return {
        file: name if last.count(name) == 1 else f"{number}-{name}"
        for number, (file, name) in enumerate(zip(files, last, strict=True), start=1)
    }


def _content(file: str) -> bytes:
    fd = open_file(file)
    try:
        return read_descriptor(fd, name_of(file))
    finally:
        os.close(fd)


def _manifests(names: Mapping[str, str]) -> dict[str, str]:
    """The manifests beside files -> their names there, beside the copies."""
    from klpd.policy.beside import manifest_path

    paths = {os.path.realpath(file): name for file, name in names.items() if file != STANDARD_INPUT}
    beside = {manifest_path(file): manifest_path(name) for file, name in paths.items()}
    return {file: name for file, name in beside.items() if os.path.exists(file)}


def _as_file(name: str) -> str:
    return f"./{name}" if is_parameter(name) else name


def _command(command_line: CommandLine, environment: Mapping[str, str], names: Mapping[str, str]) -> list[str]:
    colours = [f"{each}={environment[each]}" for each in _COLOURS if each in environment]
    options = (
        ("--json", command_line.json),
        ("--debug", command_line.debug),
        ("--no-ask-password", not command_line.ask_password),
    )
    request = command_line.request
    if isinstance(request, PolicyCheck) and request.files:
        request = replace(request, unsafe=True)  # whose the copies are there tells nothing
    return [
        *(["env", *colours] if colours else []),
        "klpctl",
        *(option for option, given in options if given),
        *words_of(request, lambda file: _as_file(names[file])),
    ]
