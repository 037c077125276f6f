# SPDX-License-Identifier: GPL-2.0-or-later
"""The policy in force: the last set of files that checked, or the built-in one where none ever did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.errors import PolicyError
from klpd.judge.rules import builtin_policy
from klpd.report import PolicyReport, StateName

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.judge.rules import Policy


class Policies:
    """Keeps the policy; `read` (klpd.policy.read_policy) reads the files."""

    def __init__(self, read: Callable[[], Policy]) -> None:
        self._read = read
        self._builtin = True
        self.current = builtin_policy("no policy has been read yet")
        self.errors: tuple[str, ...] = ()

    def load(self) -> None:
        """Read the files and take them.

        Raises PolicyError where they do not check; what was in force stays so, and at the first time the built-in
        policy does, which lets no livepatch in.
        """
        try:
            policy = self._read()
        except PolicyError as error:
            self.errors = tuple(str(each) for each in (error, *error.others))
            if self._builtin:
                self.current = builtin_policy("the policy files do not check")
            raise
        self.current, self.errors, self._builtin = policy, (), False

    @property
    def report(self) -> PolicyReport:
        policy = self.current
        return PolicyReport(
            mode=policy.mode.value,
            default=policy.default.permission.value,
            unknown_states=policy.unknown_states.permission.value,
            files=policy.files,
            errors=self.errors,
            builtin=self._builtin,
            manifests=len(policy.manifests),
            names=tuple(StateName(each.id, each.name) for each in policy.states.values() if each.name is not None),
        )
