# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpctl sees by itself, without klpd: module files, policy files, and the kernel as far as this user may."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from klpd.ctl.files import open_module
from klpd.errors import GuardError, PolicyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.names import Names
    from klpd.judge.rules import Policy
    from klpd.model import Livepatch, Stack


class Machine(Protocol):
    """The machine that klpctl runs on."""

    def livepatch(self, file: str) -> Livepatch: ...

    def stack(self) -> Stack: ...

    def policy(self) -> Policy: ...

    def names(self) -> Names: ...

    def check_policy(self, files: tuple[str, ...]) -> Policy: ...

    def policy_texts(self) -> Iterator[tuple[str, str]]: ...


class ThisMachine:
    """The real one."""

    def livepatch(self, file: str) -> Livepatch:
        """What a module file describes.

        Raises UsageError where it cannot be opened, ModuleFormatError where it is no livepatch module.
        """
        from klpd import module

        with open(open_module(file), "rb") as stream:
            data = stream.read(module.LARGEST_FILE + 1)
        if len(data) > module.LARGEST_FILE:
            raise UsageError(f"{file} is larger than {module.LARGEST_FILE >> 20} MiB, which no livepatch is")
        return module.read_livepatch(data, file=file)

    def stack(self) -> Stack:
        """The installed stack; its states are known where kernel memory can be read, which root alone may."""
        from klpd.kernel.memory import KernelMemory
        from klpd.kernel.stack import read_stack

        try:
            memory = KernelMemory()
        except GuardError:
            return read_stack(None, _unknown)
        with closing(memory):
            return read_stack(memory, _unknown)

    def policy(self) -> Policy:
        """The policy of the files as they are now.  Raises PolicyError."""
        from klpd.policy import read_policy

        return read_policy()

    def names(self) -> Names:
        """The policy's names for states; none where its files cannot be had: a name is an ornament, and errors in the
        policy are told by klpd's status and by `klpctl policy check`."""
        from klpd.ctl.names import names_of

        try:
            return names_of(self.policy())
        except (PolicyError, OSError):
            return {}

    def check_policy(self, files: tuple[str, ...]) -> Policy:
        """The policy of these files, or of those in force.  Raises PolicyError."""
        from klpd.policy import read_policy

        return read_policy(files) if files else read_policy()

    def policy_texts(self) -> Iterator[tuple[str, str]]:
        """The policy files in force and what is in them, whether it checks or not."""
        from klpd.policy import policy_files

        for path in policy_files():
            try:
                yield str(path), path.read_text(encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _unknown(_name: str, _build_id: str) -> None:
    """No file is known to klpctl as the one that an installed livepatch came from; klpd remembers them."""
