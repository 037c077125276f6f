# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard's life in the kernel: how it comes and goes, who takes it over, and where it cannot be had."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.vm.boot import Options
from tests.vm.lab import Lab
from tests.vm.marks import extended, on_every_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.host import Host
    from tests.vm.kernel import Kernel

pytestmark = extended

NAME: Final = "klp_cmdline_v1"
PINS: Final = "/sys/fs/bpf/klpd"
OBJECT: Final = "/usr/lib/python3/dist-packages/klpd/kernel/bpf/guard.bpf.o"


@pytest.fixture
def lab(bare_host: Host) -> Lab:
    return Lab(bare_host)


def test_it_stays_when_who_closed_the_gate_is_gone(lab: Lab) -> None:
    lab("close")
    assert lab.load("file", lab.livepatch(NAME)) == "EPERM"


def test_who_takes_it_over_reads_what_happened_meanwhile(lab: Lab) -> None:
    lab("close")
    path = lab.livepatch(NAME)
    lab.load("file", path)
    decision, refused_file = lab("take_over")
    assert (decision["module"], refused_file["file"]) == (NAME, path)
    assert lab("take_over") == []


def test_taking_it_over_keeps_programs_generation_and_approvals(lab: Lab) -> None:
    path, other = lab.livepatch("klp_add"), lab.livepatch(NAME)
    lab("close")
    lab("approve", other, 60)
    lab.load("file", other)
    lab.settle()
    generation = lab("counters")["generation"]
    lab("approve", path, 60, generation)
    identity = lab.host.run(f"stat --format %i {PINS}/guard/load_file").stdout
    assert lab("close")["counters"]["generation"] == generation > 1
    assert lab.host.run(f"stat --format %i {PINS}/guard/load_file").stdout == identity
    assert lab.load("file", path) == "ok"


def test_a_newer_one_replaces_it_with_no_open_moment(lab: Lab) -> None:
    path = lab.livepatch(NAME)
    lab("close")
    lab.host.run(f"cp {OBJECT} newer.bpf.o && printf '\\n' >> newer.bpf.o", check=True)
    before = lab.host.run(f"stat --format %i {PINS}/guard/load_file").stdout
    loader = lab.host.spawn(["python3", "-I", "guard_lab.py", "load_until", "memfd", path, "/root/stop"])
    lab.host.run("while ! test -e stop.started; do sleep 0.1; done", check=True)
    for each in (("enforce", "newer.bpf.o"), ("enforce",), ("enforce", "newer.bpf.o")):
        assert lab("close", *each)["state"] == "closed"
    lab.host.run("touch stop", check=True)
    loader.wait(60)
    assert b"EPERM" in loader.stdout
    assert b"ok" not in loader.stdout
    assert lab.host.run(f"stat --format %i {PINS}/guard/load_file").stdout != before
    assert lab.host.run(f"ls {PINS}").stdout.split() == ["guard"]


def test_what_an_interrupted_replacement_left_is_cleared_away(lab: Lab) -> None:
    lab("close")
    lab.host.run(f"mv {PINS}/guard {PINS}/going-1 && mkdir {PINS}/coming-1", check=True)
    assert lab.load("file", lab.livepatch(NAME)) == "EPERM"
    assert lab("close")["state"] == "closed"
    assert lab.host.run(f"ls {PINS}").stdout.split() == ["guard"]


def test_only_root_sees_its_pins(lab: Lab) -> None:
    lab("close")
    assert lab.host.run(f"stat --format %a:%U {PINS} {PINS}/guard").stdout.split() == ["700:root", "700:root"]


def test_removing_it_opens_the_gate(lab: Lab) -> None:
    lab("close")
    assert lab("remove")["state"] == "open"
    assert loads_soon(lab, lab.livepatch(NAME))


def test_removing_its_pins_by_hand_opens_the_gate_once_nobody_has_a_hold_on_it_and_is_told(lab: Lab) -> None:
    lab("close")
    status = lab("lose_pins")
    assert status["state"] == "closed"
    assert "its pins in /sys/fs/bpf/klpd are gone" in status["reason"]
    assert loads_soon(lab, lab.livepatch(NAME))


def test_its_self_test_finds_a_way_that_is_open(lab: Lab) -> None:
    lab("close")
    lab.host.run(f"rm {PINS}/guard/load_buffer", check=True)
    status = lab("test")
    assert status["state"] == "ineffective"
    assert "it does not see init_module" in status["reason"]
    assert "livepatches loaded with init_module are not refused" in status["reason"]


@on_every_kernel
def test_it_does_not_claim_to_work_while_ftrace_is_off(lab: Lab) -> None:
    lab("close")
    path = lab.livepatch("klp_fails")
    lab("let_ftrace_off", "allow")
    lab.host.run("sysctl kernel.ftrace_enabled=0", check=True)
    status = lab("status")
    assert status["state"] == "ineffective"
    assert "kernel.ftrace_enabled is 0" in status["reason"]
    assert lab.load("file", path) == "ENODEV"  # its pre_patch callback has run
    lab.host.run("sysctl kernel.ftrace_enabled=1", check=True)
    assert lab("status")["state"] == "closed"
    assert lab.load("file", path) == "EPERM"


def test_closing_the_gate_again_mends_it(lab: Lab) -> None:
    lab("close")
    lab.host.run(f"rm {PINS}/guard/load_buffer", check=True)
    assert lab("close")["state"] == "closed"
    assert lab.load("buffer", lab.livepatch(NAME)) == "EPERM"


@on_every_kernel
def test_under_full_preemption_no_loader_slips_past_another(boot: Callable[[Options], Host], kernel: Kernel) -> None:
    lab = Lab(boot(Options(kernel=kernel, klpd=False, kernel_arguments=("preempt=full",))))
    assert "(full)" in lab.host.run("cat /sys/kernel/debug/sched/preempt").stdout
    assert lab("close")["state"] == "closed"
    # Large, so that its digest takes longer than a time slice.
    path = lab.file("large", lab.livepatch_bytes(NAME) + bytes(512 << 10))
    assert lab("load_at_once", "file", path, 24) == ["EPERM"] * 24
    assert lab("status")["recursion_misses"] == 0
    assert NAME not in lab.host.run("cat /proc/modules").stdout
    assert lab("remove")["state"] == "open"
    assert loads_soon(lab, path)


def loads_soon(lab: Lab, path: str) -> bool:
    """Whether the gate is open a moment after the guard's pins went: the kernel lets go of a link when it has time."""
    return any(lab.load("file", path) == "ok" for _trial in range(20))


@on_every_kernel
def test_without_bpf_among_the_security_modules_there_is_none_and_the_reason_is_told(
    boot: Callable[[Options], Host], kernel: Kernel
) -> None:
    host = boot(Options(kernel=kernel, kernel_arguments=("lsm=lockdown,capability,apparmor",)))
    told = {each["name"]: each for each in json.loads(host.run("klpctl status --json", check=True).stdout)["defences"]}
    assert told["guard"]["state"] == "degraded"
    assert '"bpf" is not among the active security modules' in told["guard"]["detail"]
    assert host.run(f"ls {PINS}").returncode != 0


def test_under_lockdown_confidentiality_there_is_none_and_the_reason_is_told(bare_host: Host) -> None:
    bare_host.run("echo confidentiality > /sys/kernel/security/lockdown", check=True)
    status = Lab(bare_host)("close")
    assert status["state"] == "unavailable"
    assert "lockdown=confidentiality" in status["reason"]


def test_under_lockdown_integrity_it_works(bare_host: Host) -> None:
    bare_host.run("echo integrity > /sys/kernel/security/lockdown", check=True)
    status = Lab(bare_host)("close")
    assert (status["state"], status["reason"]) == ("closed", "")


def test_without_a_bpf_file_system_there_is_none_and_the_reason_is_told(lab: Lab) -> None:
    lab.host.run("umount /sys/fs/bpf", check=True)
    status = lab("close")
    assert status["state"] == "unavailable"
    assert "mount -t bpf" in status["reason"]


def test_where_no_module_may_be_loaded_no_livepatch_comes_in_and_that_is_told(lab: Lab) -> None:
    lab.host.run("sysctl -q kernel.modules_disabled=1", check=True)
    status = lab("close")
    assert (status["state"], status["reason"]) == ("closed", "")
    assert "kernel.modules_disabled is 1" in status["note"]
    assert lab.load("memfd", lab.livepatch(NAME)) == "EPERM"
    assert lab("switch", "0") == ["EPERM"]


def test_a_lockdown_that_comes_later_changes_nothing(lab: Lab) -> None:
    lab("close")
    lab.host.run("echo confidentiality > /sys/kernel/security/lockdown", check=True)
    status = lab("close")
    assert (status["state"], status["reason"], status["missing"]) == ("closed", "", [])
    assert lab.load("file", lab.livepatch(NAME)) == "EPERM"


def test_without_addresses_it_says_what_it_does_not_see_until_it_is_loaded_with_them(lab: Lab) -> None:
    lab.host.run("sysctl -q kernel.kptr_restrict=2", check=True)
    status = lab("close")
    assert status["state"] == "closed"
    assert "kernel.kptr_restrict=2" in status["reason"]
    assert lab.load("file", lab.livepatch(NAME)) == "EPERM"
    lab.host.run("sysctl -q kernel.kptr_restrict=1", check=True)
    status = lab("close")
    assert (status["state"], status["reason"]) == ("closed", "")
