# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpctl sees by itself, without klpd: module files, policy files, and the kernel as far as this user may."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from klpd.ctl.files import STANDARD_INPUT, name_of, open_file
from klpd.errors import PolicyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from klpd.ctl.names import Names
    from klpd.judge.rules import Manifest, Policy
    from klpd.judge.ways import Gate
    from klpd.layout import Layouts
    from klpd.model import Assessment, Demand, Livepatch, Stack, Surroundings
    from klpd.policy.read import Checked
    from klpd.remembered import Remembered


class Machine(Protocol):
    """The machine that klpctl runs on."""

    def livepatch(self, file: str) -> Livepatch: ...

    def module(self, file: str) -> Livepatch: ...

    def assess(self, file: str) -> Assessment: ...

    def stack(self) -> Stack: ...

    def livepatch_names(self) -> tuple[str, ...]: ...

    def policy(self) -> Policy: ...

    def demand(self) -> Demand | None: ...

    def names(self) -> Names: ...

    def open_guard(self) -> None: ...

    def policy_files(self) -> tuple[tuple[str, ...], tuple[PolicyError, ...]]: ...

    def policy_checked(self, files: tuple[str, ...], *, unsafe: bool) -> Mapping[str, Checked]: ...

    def policy_text(self, file: str) -> str: ...

    def manifest_files(self) -> tuple[tuple[str, ...], tuple[PolicyError, ...]]: ...

    def manifest(self, file: str) -> Manifest | None: ...


class ThisMachine:
    """The real one."""

    @cached_property
    def _layouts(self) -> Layouts:
        from klpd.kernel.layouts import KernelLayouts

        return KernelLayouts()

    def open_guard(self) -> None:
        """Open the gate without klpd, as root, and say so in the journal.  Raises KlpdError."""
        from klpd.kernel.gate import open_gate
        from klpd.kernel.guard import Guard
        from klpd.messages import Field, MessageId
        from systemd import journal

        guard = Guard()
        try:
            open_gate(guard)
        finally:
            guard.release()
        journal.send(
            f"THE GUARD IS OPEN: user {os.getuid()} opened it while klpd did not run",
            MESSAGE_ID=MessageId.GUARD_OPENED.value,
            PRIORITY="2",
            SYSLOG_IDENTIFIER="klpd",
            **{Field.UID.value: str(os.getuid())},
        )

    def livepatch(self, file: str) -> Livepatch:
        """What a module file describes, with what is declared of it but by the site.

        Raises UsageError where it cannot be opened, ModuleFormatError where it is no livepatch module, PolicyError
        where the manifest beside it does not check.
        """
        return self._declared(self.module(file), file)

    def module(self, file: str) -> Livepatch:
        """What a module file describes by itself.  Raises UsageError and ModuleFormatError as `livepatch` does."""
        return self._read(file, ())[0]

    def assess(self, file: str) -> Assessment:
        """What klpd would say of loading a module file now, as far as this user may know.

        Raises what `livepatch` and `policy` do.
        """
        from dataclasses import replace

        from klpd.judge.ways import Source, assess
        from klpd.module.loaded import as_loaded
        from klpd.module.search import watched_directories

        policy = self.policy()
        module, data, packed, there = self._read(file, watched_directories(policy.directories))
        distrust = None if file == STANDARD_INPUT else _distrust(file)
        source = Source(name_of(file), there, packed, distrust)
        livepatch = self._declared(module, file)
        applied = as_loaded(livepatch, lambda: data, (), name_of(file), self._layouts)
        stack = replace(self._stack(policy), surroundings=self._surroundings(livepatch))
        return assess(stack, livepatch, policy, source, self._gate(policy), applied)

    def _surroundings(self, livepatch: Livepatch) -> Surroundings:
        from klpd.kernel.surroundings import Around

        return Around().of((livepatch,))

    def _gate(self, policy: Policy) -> Gate:
        from klpd.ctl.alone import gate_here

        return gate_here(policy)

    def _read(self, file: str, watched: Sequence[Path]) -> tuple[Livepatch, bytes, bool, bool]:
        """A module file by itself, its bytes, unpacked, whether it is compressed, and whether it lies in one of these
        directories.
        """
        from klpd.files import read_descriptor
        from klpd.kernel.mounts import lies_in
        from klpd.module import read_livepatch, unpack

        name = name_of(file)
        fd = open_file(file)
        try:
            packed = read_descriptor(fd, name)
            data = unpack(packed, file=name)
            there = lies_in(fd, watched)
        finally:
            os.close(fd)
        return read_livepatch(data, file=name, layouts=self._layouts), data, data is not packed, there

    def _declared(self, module: Livepatch, file: str) -> Livepatch:
        from klpd.policy.beside import with_beside, with_declared

        if file == STANDARD_INPUT:
            return with_declared(module, (), self._remembered.declared(module.digest))
        return with_beside(module, file, self._remembered.declared, mine=True)

    @cached_property
    def _remembered(self) -> Remembered:
        from klpd.remembered import read_remembered

        return read_remembered()

    def stack(self) -> Stack:
        """The installed stack; its states are known where kernel memory can be read, which root alone may, and what is
        declared of it where this user may read what klpd remembers.
        """
        try:
            return self._stack(self.policy())
        except PolicyError as error:
            return self._stack(error)

    def _stack(self, policy: Policy | PolicyError) -> Stack:
        from klpd.ctl.alone import stack_here

        return stack_here(self._remembered, self._layouts, policy)

    def livepatch_names(self) -> tuple[str, ...]:
        """The names of the livepatches in force, and nothing more of them: whoever completes a line waits for it."""
        try:
            return tuple(sorted(os.listdir("/sys/kernel/livepatch")))
        except FileNotFoundError:
            return ()

    def policy(self) -> Policy:
        """The policy of the files as they are now.  Raises PolicyError."""
        from klpd.policy import read_policy

        return read_policy()

    def demand(self) -> Demand | None:
        """What has the running kernel refuse modules that it cannot verify; None where it cannot be read."""
        from klpd.kernel.signing import read_demand

        return read_demand()

    def names(self) -> Names:
        """The policy's names for states; none where its files cannot be had: a name is an ornament, and errors in the
        policy are told by klpd's status and by `klpctl policy check`."""
        from klpd.ctl.names import names_of

        try:
            return names_of(self.policy())
        except (PolicyError, OSError):
            return {}

    def policy_files(self) -> tuple[tuple[str, ...], tuple[PolicyError, ...]]:
        """The policy files that would count, whoever may write them, in their order; and what keeps others away."""
        from klpd.policy import find_files

        found = find_files(owner=None)
        return tuple(str(each) for each in found.files), found.complaints

    def policy_checked(self, files: tuple[str, ...], *, unsafe: bool) -> Mapping[str, Checked]:
        """What is to be said of policy files, each by itself; without any, of those in force, together.

        `unsafe`: whoever may write them.
        """
        from pathlib import Path

        from klpd.policy import check_file, check_policy
        from klpd.policy.ownership import ROOT

        owner = None if unsafe else ROOT
        return {each: check_file(Path(each), owner=owner) for each in files} if files else check_policy(owner=owner)

    def policy_text(self, file: str) -> str:
        """What a policy file says, whether it checks or not.  Raises UsageError where it cannot be read."""
        fd = open_file(file)
        try:
            with open(fd, encoding="utf-8", errors="backslashreplace") as stream:
                return stream.read()
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from error

    def manifest_files(self) -> tuple[tuple[str, ...], tuple[PolicyError, ...]]:
        """The site's manifests, in their order; and what is wrong with their directories and with others in them."""
        from klpd.policy import find_files
        from klpd.policy.manifest import DIRECTORIES

        found = find_files(directories=DIRECTORIES)
        return tuple(str(each) for each in found.files), found.complaints

    def manifest(self, file: str) -> Manifest | None:
        """What a manifest declares; None for one that stands for nothing, to hide another of its name.

        Whose one has to be is known of the site's own.

        Raises PolicyError, whose `others` are all further complaints.
        """
        from pathlib import Path

        from klpd.policy.dropins import is_mask
        from klpd.policy.manifest import is_the_sites, read_manifest
        from klpd.policy.ownership import ROOT

        path = Path(file)
        owner = ROOT if is_the_sites(path) else None
        return None if is_mask(path, owner) else read_manifest(path, owner=owner)


def _distrust(file: str) -> str | None:
    from klpd.policy.beside import distrusted, read_beside

    handed = read_beside(file)
    return None if handed is None or handed.distrust is None else str(distrusted(handed))
