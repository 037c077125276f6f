# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard's second lock: a livepatch's entry in /sys/kernel/livepatch, however the livepatch came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.vm.lab import Lab
from tests.vm.marks import extended

if TYPE_CHECKING:
    from tests.vm.host import Host

pytestmark = extended

NAME: Final = "klp_cmdline_v1"


@pytest.fixture
def lab(bare_host: Host) -> Lab:
    """With the gate closed by the second lock only: what gets past the first."""
    lab = Lab(bare_host)
    lab("close")
    bare_host.run("rm /sys/fs/bpf/klpd/guard/load_*", check=True)
    return lab


def test_a_livepatch_that_came_unseen_is_not_installed(lab: Lab) -> None:
    # klp_enable_patch gets the refusal as ENOMEM from kobject_add.
    assert lab.load("file", lab.livepatch(NAME)) == "ENOMEM"
    assert lab.host.run("ls /sys/kernel/livepatch").stdout == ""
    assert NAME not in lab.host.run("cat /proc/modules").stdout


def test_it_is_told(lab: Lab) -> None:
    lab.load("file", lab.livepatch(NAME))
    (event,) = lab("events")
    told = {name: event[name] for name in ("lock", "way", "verdict", "allowed", "module", "digest")}
    assert told == {
        "lock": "entry",
        "way": "sysfs entry",
        "verdict": "unapproved",
        "allowed": False,
        "module": NAME,
        "digest": "",
    }


def test_observing_it_is_told_and_installed(lab: Lab) -> None:
    lab("set_mode", "observe")
    assert lab.load("file", lab.livepatch(NAME)) == "ok"
    assert [(each["lock"], each["allowed"]) for each in lab("events") if "lock" in each] == [("entry", True)]


def test_switched_off_it_is_installed(lab: Lab) -> None:
    lab("set_mode", "off")
    assert lab.load("file", lab.livepatch(NAME)) == "ok"


def test_folders_of_the_same_name_elsewhere_are_nobodys_business(lab: Lab) -> None:
    lab.host.run("mkdir --parents /sys/fs/cgroup/kernel/livepatch/anything", check=True)


def test_a_livepatch_that_another_has_overtaken_since_its_check_is_not_installed(bare_host: Host) -> None:
    lab = Lab(bare_host)
    lab("close")
    slow, path = lab.livepatch("klp_slow"), lab.livepatch(NAME)
    lab("approve", slow, 60)
    lab("approve", path, 60, 1)
    # Between pre_patch and the start of its transition, with klp_mutex held: the other waits for that behind the check.
    done = bare_host.run(
        f"""
        insmod {slow} &
        while ! dmesg | grep -q 'klp_slow: pre_patch'; do sleep 0.05; done
        insmod {path}
        wait
        """
    )
    assert done.stderr == f"insmod: ERROR: could not insert module {path}: Cannot allocate memory\n"
    told = [(each["module"], each["lock"], each["verdict"]) for each in lab("events") if "lock" in each]
    assert told == [
        ("klp_slow", "load", "allowed"),
        (NAME, "load", "allowed"),
        (NAME, "entry", "stale"),
    ]
