# SPDX-License-Identifier: GPL-2.0-or-later
"""What a module's modinfo declares, tag by tag."""

from __future__ import annotations

import pytest

from klpd.errors import ModuleFormatError
from klpd.model import MOST_DECLARED, UNDECLARED, Declaration, DeclaredState, Rule, RuleKind, StatesSource
from klpd.module import read_livepatch
from klpd.module.declared import read_declared
from klpd.module.modinfo import Modinfo
from tests.livepatches.build import build
from tests.unit.module.forgery import Forgery

RULE = Rule(RuleKind.DECLARED, "the modinfo of klp_a")


def declared(*values: str) -> Declaration:
    return read_declared(Modinfo((("name", "klp_a"), *(("klpd_state", each) for each in values))))


def state(state_id: int, version: int, *, sticky: bool = False, restores: bool | None = None) -> DeclaredState:
    return DeclaredState(state_id, version, RULE, StatesSource.MODINFO, sticky=sticky, restores=restores)


@pytest.mark.parametrize(
    ("values", "declaration"),
    [
        ((), UNDECLARED),
        (("none",), Declaration((), stateless=(RULE,))),
        (("0x1001:2",), Declaration((state(0x1001, 2),))),
        (("4097:0x2:sticky",), Declaration((state(0x1001, 2, sticky=True),))),
        (("1:2:restores",), Declaration((state(1, 2, restores=True),))),
        (("1:2:sticky,restores",), Declaration((state(1, 2, sticky=True, restores=True),))),
        (("1:2:restores,sticky", "2:0"), Declaration((state(1, 2, sticky=True, restores=True), state(2, 0)))),
        (("0xffffffffffffffff:4294967295",), Declaration((state((1 << 64) - 1, (1 << 32) - 1),))),
    ],
)
def test_tags_declare_states(values: tuple[str, ...], declaration: Declaration) -> None:
    assert declared(*values) == declaration


@pytest.mark.parametrize(
    "values",
    [
        ("",),
        ("1",),
        ("1:",),
        (":1",),
        ("1:2:",),
        ("1:2:stikcy",),
        ("1:2:sticky,",),
        ("1:2:sticky:restores",),
        (" 1:2",),
        ("1:2\n",),
        ("-1:2",),
        ("0X1:2",),
        ("\u0661:2",),
        ("0:1",),
        ("0x10000000000000000:1",),
        ("18446744073709551616:1",),
        ("1:4294967296",),
        ("none", "1:2"),
        ("none", "none"),
        ("1:2", "0x1:3"),
        tuple(f"{number}:1" for number in range(1, MOST_DECLARED + 2)),
    ],
)
def test_what_makes_no_sense_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(ModuleFormatError, match=r"^its \.modinfo "):
        declared(*values)


def test_they_are_read_from_the_module() -> None:
    file = Forgery(build()["klp_allocated"].read_bytes())
    tagged = file.replace(".modinfo", file.content(".modinfo") + b"klpd_state=0x1007:1:sticky\0").done()
    livepatch = read_livepatch(tagged, file="klp_allocated.ko")
    assert livepatch.states is None
    assert [(each.id, each.version, each.sticky) for each in livepatch.declared.states or ()] == [(0x1007, 1, True)]
