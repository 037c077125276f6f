# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that a loaded livepatch came from, told from others that look like it.

A name and a build id do not make a file: a signed and an unsigned one, a stripped and an unstripped one have both in
common.  What cannot be told apart is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Protocol, TypeVar

from klpd.model import UNDECLARED, Declaration, Signature, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from klpd.model import Livepatch


Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of the file that a loaded livepatch came from.

    Where several files may be the one, `digest` and `signature` are None, and of `replace`, `states` and `restores` is
    known what all of them have in common.  `declared` is then what is declared of any: the safe side.
    """

    digest: str | None = None
    replace: bool | None = None
    states: tuple[State, ...] | None = None
    restores: bool | None = None
    declared: Declaration = UNDECLARED
    signature: Signature | None = None

    @classmethod
    def of(cls, livepatch: Livepatch) -> Origin:
        """What is known where this is the file."""
        return cls(
            livepatch.digest,
            livepatch.replace,
            livepatch.states,
            livepatch.restores,
            livepatch.declared,
            livepatch.signature,
        )


class Remembered(Protocol):
    """What klpd remembers of the livepatches that it saw."""

    def known(self, name: str, build_id: str) -> tuple[Livepatch, ...]:
        """Those with this name and build id."""
        ...

    def declared(self, digest: str) -> Declaration | None:
        """What is declared of the bytes with this digest, as far as anything is remembered of that."""
        ...


def find_origin(
    name: str, build_id: str, entered: str | None, remembered: Remembered, search: Callable[[], Iterable[Livepatch]]
) -> Origin | None:
    """What is known of the file that the loaded livepatch `name` came from; None where nothing is.

    What klpd remembers of a file goes before what lies where the file is now.  `search` finds the files with this name
    and build id; `entered` is as in `choose`.
    """
    candidates = {each.digest: each for each in remembered.known(name, build_id)}
    if entered is None or entered not in candidates:
        for each in search():
            candidates.setdefault(each.digest, each)
    if entered is not None and entered not in candidates:
        return Origin(entered, declared=remembered.declared(entered) or UNDECLARED)
    return choose(candidates.values(), entered)


def choose(candidates: Iterable[Livepatch], entered: str | None) -> Origin | None:
    """Which of `candidates`, files with the loaded livepatch's name and build id, it came from; None without any.

    `entered` is the digest (hex) of the bytes that were seen to enter the kernel by that name, if anybody saw it.
    """
    by_digest = {each.digest: each for each in candidates}
    if entered is not None:
        seen = by_digest.get(entered)
        return Origin(entered) if seen is None else Origin.of(seen)
    files = tuple(by_digest.values())
    if not files:
        return None
    return Origin.of(files[0]) if len(files) == 1 else _any_of(files)


def _any_of(files: tuple[Livepatch, ...]) -> Origin:
    declared = sum((each.declared for each in files[1:]), files[0].declared)
    if not declared.states and any(each.declared.states is None for each in files):
        # One that is declared to have none does not speak for another.
        declared = changed(declared, states=None, stateless=())
    return Origin(
        digest=None,
        replace=_common(each.replace for each in files),
        states=_common(each.states for each in files),
        restores=_common(each.restores for each in files),
        declared=declared,
        signature=None,
    )


def _common(facts: Iterable[Fact | None]) -> Fact | None:
    first, *others = facts
    return first if all(each == first for each in others) else None
