# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel demands of modules, and what it verified, is told as the kernel shows it, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.kernel.signing import read_demand, read_verified
from klpd.model import Demand
from tests.unit.kernel.fake_sysfs import add_module, tell_of_signatures

if TYPE_CHECKING:
    from pathlib import Path

OPEN = "[none] integrity confidentiality"


@pytest.mark.parametrize(
    ("sig_enforce", "lockdown", "demand"),
    [
        ("N", OPEN, Demand.NOTHING),
        ("N", None, Demand.NOTHING),
        ("Y", OPEN, Demand.SIG_ENFORCE),
        ("Y", None, Demand.SIG_ENFORCE),
        ("N", "none [integrity] confidentiality", Demand.LOCKDOWN),
        ("N", "none integrity [confidentiality]", Demand.LOCKDOWN),
        (None, None, Demand.UNCHECKED),
    ],
)
def test_sig_enforce_and_lockdown_have_the_kernel_demand_signatures(
    tmp_path: Path, sig_enforce: str | None, lockdown: str | None, demand: Demand
) -> None:
    tell_of_signatures(tmp_path, sig_enforce=sig_enforce, lockdown=lockdown)
    assert read_demand(tmp_path) is demand


def test_without_sysfs_nothing_is_known_of_its_demands(tmp_path: Path) -> None:
    assert read_demand(tmp_path) is None


def test_without_securityfs_the_kernel_may_be_locked_down(tmp_path: Path) -> None:
    tell_of_signatures(tmp_path, sig_enforce="N", lockdown=None)
    (tmp_path / "sys/kernel/security/lsm").unlink()
    assert read_demand(tmp_path) is None


@pytest.mark.parametrize(("taint", "verified"), [("OEK", False), ("E", False), ("K", True), ("OK", True), ("", True)])
def test_the_taint_of_a_module_tells_whether_the_kernel_verified_it(
    tmp_path: Path, taint: str, *, verified: bool
) -> None:
    tell_of_signatures(tmp_path, sig_enforce="N", lockdown=OPEN)
    add_module(tmp_path, "klp_one", taint=taint)
    assert read_verified("klp_one", tmp_path) is verified


def test_a_kernel_that_does_not_check_signatures_verified_none(tmp_path: Path) -> None:
    add_module(tmp_path, "klp_one", taint="OK")
    assert read_verified("klp_one", tmp_path) is None


def test_nothing_was_verified_of_a_module_that_is_gone(tmp_path: Path) -> None:
    tell_of_signatures(tmp_path, sig_enforce="Y", lockdown=OPEN)
    assert read_verified("klp_one", tmp_path) is None
