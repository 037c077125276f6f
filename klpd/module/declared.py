# SPDX-License-Identifier: GPL-2.0-or-later
"""What a module declares in its modinfo, which a signature covers: MODULE_INFO(klpd_state, "ID:VERSION[:FLAGS]").

klpd-livepatch(5) tells the grammar.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from klpd.errors import ModuleFormatError
from klpd.model import (
    LARGEST_ID,
    LARGEST_VERSION,
    MOST_DECLARED,
    UNDECLARED,
    Declaration,
    DeclaredState,
    Rule,
    RuleKind,
    StatesSource,
)

if TYPE_CHECKING:
    from klpd.module.modinfo import Modinfo

TAG: Final = "klpd_state"
_NONE: Final = "none"
_NUMBER: Final = r"(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})"
_STATE: Final = re.compile(rf"{_NUMBER}:{_NUMBER}(?::([a-z]+(?:,[a-z]+)*))?", re.ASCII)
_FLAGS: Final = frozenset({"sticky", "restores"})


def read_declared(modinfo: Modinfo) -> Declaration:
    """What the tags declare.  Raises ModuleFormatError where they make no sense."""
    values = [value for tag, value in modinfo.tags if tag == TAG]
    if not values:
        return UNDECLARED
    rule = Rule(RuleKind.DECLARED, f"the modinfo of {modinfo.name}")
    if values == [_NONE]:
        return Declaration((), stateless=(rule,))
    if len(values) > MOST_DECLARED:
        raise ModuleFormatError(f"its .modinfo declares more than {MOST_DECLARED} states")
    states = tuple(_state(each, rule) for each in values)
    if len({each.id for each in states}) < len(states):
        raise ModuleFormatError("its .modinfo declares a state twice")
    return Declaration(states)


def _state(value: str, rule: Rule) -> DeclaredState:
    match = _STATE.fullmatch(value)
    flags = frozenset((match[3] or "").split(",")) - {""} if match else frozenset()
    if match is None or not flags <= _FLAGS:
        raise ModuleFormatError(
            f"its .modinfo has {TAG}={value[:80]!r}; expected ID:VERSION, with :sticky, :restores or :sticky,restores "
            'behind it, or "none" as the only one'
        )
    state_id, version = _number(match[1]), _number(match[2])
    if not 0 < state_id <= LARGEST_ID or version > LARGEST_VERSION:
        raise ModuleFormatError(
            f"its .modinfo has {TAG}={value[:80]!r}; an id is a number from 1 to {LARGEST_ID:#x}, a version one from 0 "
            f"to {LARGEST_VERSION}"
        )
    restores = True if "restores" in flags else None
    return DeclaredState(state_id, version, rule, StatesSource.MODINFO, sticky="sticky" in flags, restores=restores)


def _number(text: str) -> int:
    return int(text, 16) if text.startswith("0x") else int(text)
