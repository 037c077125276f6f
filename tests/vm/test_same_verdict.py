# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd says of a load what klpctl says without it, and what insmod and apply then get: what differs has a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from klpd.errors import ExitStatus
from klpd.model import Assessment, Decision, Outcome
from klpd.plain import from_plain
from tests.livepatches.build import build
from tests.vm.in_guest.four_ways import COMBINATIONS, FILES
from tests.vm.marks import extended

if TYPE_CHECKING:
    from klpd.model import Admission
    from tests.vm.host import Host

TOOL: Final = Path(__file__).parent / "in_guest" / "four_ways.py"
_SCRIPT: Final = "/root/four_ways.py"
_LONG: Final = 3600
_A_PART: Final = 11

FIRST: Final = (
    "denied in audit mode",
    "declared too high once",
    "declared by somebody",
    "a state lost that is declared of a file elsewhere",
)
"""Those that tell most."""
OTHERS: Final = tuple(each for each in COMBINATIONS if each not in FIRST)
PARTS: Final = (
    FIRST,
    *(pytest.param(OTHERS[at : at + _A_PART], marks=extended) for at in range(0, len(OTHERS), _A_PART)),
)

REFUSALS: Final = {"declared of another", "declared by a broken manifest"}
"""What has no verdict, since what is declared of it cannot be taken."""
GOES_IN: Final = frozenset({Outcome.ALLOWED, Outcome.LET_IN})
DIFFERENCES: Final = {
    "denied with the gate open": ("guard-open", None),
    "declared by somebody": ("manifest-distrusted", None),
    "declared by anybody": ("manifest-distrusted", None),
    "elsewhere": ("not-watched", None),
    "a link to a file elsewhere": ("not-watched", None),
    "left over": ("module-left-over", "left-over-removed"),
    "in force already": ("already-loaded", "already-in-force"),
}
"""Where insmod and apply do not get the same: the codes that tell why."""


def outcomes(host: Host, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    built = build(release=host.run("uname --kernel-release", check=True).stdout.strip())
    host.run(f"mkdir -p {FILES}", check=True)
    for each in {file for name in names for file in (COMBINATIONS[name].livepatch, *COMBINATIONS[name].stack)}:
        host.put(built[each], f"{FILES}/{each}.ko")
    host.put(TOOL, _SCRIPT)
    told = json.loads(host.run(["python3", "-I", _SCRIPT, *names], check=True, timeout=_LONG).stdout)
    assert isinstance(told, dict)
    return told


@pytest.mark.parametrize("names", PARTS, ids=lambda names: f"from {names[0]}")
def test_check_with_klpd_and_without_insmod_and_apply_agree(host: Host, names: tuple[str, ...]) -> None:
    for name, found in outcomes(host, names).items():
        if name in REFUSALS:
            _check_refusal(name, found)
        else:
            _check(name, found)


def _check_refusal(name: str, found: dict[str, Any]) -> None:
    for each in ("with", "without", "user", "apply"):
        assert found[each]["status"] == ExitStatus.USAGE, (name, each, found[each])
    for each in ("insmod", "apply"):
        assert found[each]["after"] == found[each]["before"], (name, each, found[each])


def _check(name: str, found: dict[str, Any]) -> None:
    answer = _assessment(found["with"])
    assert answer == _assessment(found["without"]), name
    assert found["with"]["status"] == found["without"]["status"] == _STATUS[answer.decision], (name, found["with"])
    if "user" in found:
        _check_user(name, answer, found["user"])
    with_klpd, without = found.get("lists", ([], []))
    assert with_klpd == without, name
    assert answer.insmod is not None, name
    assert answer.apply is not None, name
    livepatch = COMBINATIONS[name].livepatch
    for way, admission in (("insmod", answer.insmod), ("apply", answer.apply)):
        tried = found[way]
        goes_in = admission.outcome in GOES_IN
        told = (name, way, admission, tried)
        assert (livepatch in tried["after"]) is (goes_in or livepatch in tried["before"]), told
        assert goes_in or tried["after"] == tried["before"], told
        assert (tried["status"] == 0) is (goes_in or admission.outcome is Outcome.NOTHING), told
    if (name in DIFFERENCES) or answer.insmod.outcome is not answer.apply.outcome:
        by_loader, by_apply = DIFFERENCES[name]
        assert by_loader in _codes(answer.insmod), (name, answer.insmod)
        assert by_apply is None or by_apply in _codes(answer.apply), (name, answer.apply)


def _check_user(name: str, answer: Assessment, found: dict[str, Any]) -> None:
    """Who may not read what klpd remembers is never told that it would approve what it does not."""
    told = _assessment(found)
    assert told.decision in (answer.decision, Decision.UNKNOWN), (name, told)
    assert found["status"] == _STATUS[told.decision], (name, found)
    for mine, klpds in ((told.insmod, answer.insmod), (told.apply, answer.apply)):
        assert mine is not None, name
        assert klpds is not None, name
        assert mine.outcome in (klpds.outcome, Outcome.UNKNOWN), (name, mine, klpds)


_STATUS: Final = {
    Decision.ALLOW: ExitStatus.OK,
    Decision.DENY: ExitStatus.VETOED,
    Decision.UNKNOWN: ExitStatus.CANNOT_TELL,
}


def _assessment(found: dict[str, Any]) -> Assessment:
    assert found["answer"], found
    return from_plain(Assessment, found["answer"])


def _codes(admission: Admission) -> set[str]:
    return {each.code for each in admission.reasons}
