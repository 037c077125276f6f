# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel refuses of a livepatch for what else there is in it, klpd has said before, by every way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from klpd.messages import MessageId
from tests.vm.kernel import NEWEST
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_into_tree, put_livepatches, set_policy, wait_settled
from tests.vm.marks import on_every_kernel, on_the_newest_too
from tests.vm.test_hold import TREE

if TYPE_CHECKING:
    from tests.vm.host import Host
    from tests.vm.kernel import Kernel

NOTHING: Final = "true"


@dataclass(frozen=True, slots=True)
class Case:
    """A livepatch that the kernel refuses for `code`; what it says of that, in its log or as an error of insmod's; and
    what brings that about, and ends it."""

    livepatch: str
    code: str
    complaint: str
    before: str = NOTHING
    after: str = NOTHING


CASES: Final = (
    Case("klp_no_function", "function-missing", "symbol 'klp_no_such_function' not found in symbol table"),
    Case("klp_ambiguous", "function-ambiguous", "unresolvable ambiguity for symbol 'type_show'"),
    Case("klp_no_position", "function-missing", "symbol position 2 for symbol 'cmdline_proc_show'"),
    Case("klp_needs", "symbol-missing", "symbol 'klp_no_such_symbol' not found in symbol table"),
    Case(
        "klp_cmdline_v1",
        "function-taken",
        "failed to register ftrace handler for function 'cmdline_proc_show' (-16)",
        "insmod /root/klp_test_kprobe.ko",
        "rmmod klp_test_kprobe",
    ),
    Case(
        "klp_cmdline_v1",
        "tracing-off",
        "failed to register ftrace handler for function 'cmdline_proc_show' (-16)",
        "sysctl -q kernel.ftrace_enabled=0",
        "sysctl -q kernel.ftrace_enabled=1",
    ),
)


def denials(answer: str) -> list[dict[str, Any]]:
    return [each for each in json.loads(answer)["findings"] if each["decision"] == "deny"]


def check(host: Host, livepatch: str) -> list[dict[str, Any]]:
    return denials(host.run(f"klpctl check --json {TREE}/{livepatch}.ko").stdout)


@on_the_newest_too
def test_what_the_kernel_refuses_klpd_and_klpctl_alone_have_said(host: Host, kernel: Kernel) -> None:
    # The newest kernel does not let tracing be switched off.
    cases = tuple(each for each in CASES if kernel is not NEWEST or each.code != "tracing-off")
    set_policy(host, ALLOW_ALL + 'ftrace-off = "allow"\n')
    put_into_tree(host, *{each.livepatch for each in cases})
    put_livepatches(host, "klp_test_kprobe")
    told = []
    for case in cases:
        host.run(case.before, check=True)
        told.append(check(host, case.livepatch))
        assert [each["code"] for each in told[-1]] == [case.code], case
        host.run(case.after, check=True)
    host.run("systemctl stop klpd && klpctl guard open", check=True)
    for case, by_klpd in zip(cases, told, strict=True):
        host.run(f"{case.before}; dmesg -C", check=True)
        assert check(host, case.livepatch) == by_klpd
        assert host.run(f"insmod {TREE}/{case.livepatch}.ko").returncode != 0, case
        assert case.complaint in host.run("dmesg").stdout, case
        host.run(case.after, check=True)
    assert installed(host) == []


def test_a_refusal_ends_with_what_it_was_for(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_cmdline_v1")
    put_livepatches(host, "klp_test_kprobe")
    host.run("insmod /root/klp_test_kprobe.ko", check=True)
    assert host.run(f"insmod {TREE}/klp_cmdline_v1.ko").returncode != 0
    (refusal,) = journal(host, MessageId.LOAD_VETOED)
    assert "a kprobe with a post_handler at cmdline_proc_show+0x" in refusal["MESSAGE"]
    planned = host.run(f"klpctl apply {TREE}/klp_cmdline_v1.ko")
    assert planned.returncode == 1
    assert "a kprobe with a post_handler" in planned.stdout + planned.stderr
    host.run("rmmod klp_test_kprobe", check=True)
    host.run(f"insmod {TREE}/klp_cmdline_v1.ko", check=True)
    assert installed(host) == ["klp_cmdline_v1"]
    (listed,) = json.loads(host.run("klpctl list --json", check=True).stdout)
    assert [(each["name"], each["patched"]) for each in listed["objects"]] == [("vmlinux", True)]


def test_a_kernel_that_is_locked_down_takes_nothing_unsigned(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_add")
    host.run("echo integrity > /sys/kernel/security/lockdown", check=True)
    assert [each["code"] for each in check(host, "klp_add")] == ["unsigned"]
    host.run("systemctl stop klpd && klpctl guard open && dmesg -C", check=True)
    assert [each["code"] for each in check(host, "klp_add")] == ["unsigned"]
    assert host.run(f"insmod {TREE}/klp_add.ko").returncode != 0
    assert "Lockdown: insmod: unsigned module loading is restricted" in host.run("dmesg").stdout


def test_what_a_module_lacks_counts_once_it_is_loaded(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_target_lacks")
    put_livepatches(host, "klp_test_target")
    host.run("insmod /root/klp_test_target.ko", check=True)
    assert [each["code"] for each in check(host, "klp_target_lacks")] == ["function-missing"]
    host.run("klpctl guard open", check=True)
    assert host.run(f"insmod {TREE}/klp_target_lacks.ko").returncode != 0
    host.run("rmmod klp_test_target", check=True)
    assert check(host, "klp_target_lacks") == []
    host.run(f"insmod {TREE}/klp_target_lacks.ko", check=True)
    wait_settled(host)
    assert installed(host) == ["klp_target_lacks"]
    assert host.run("insmod /root/klp_test_target.ko").returncode != 0
    assert "klp_target_lacks" in host.run("klpctl list | grep 'waits for klp_test_target'").stdout


@on_every_kernel
def test_what_patches_nothing_is_told_from_what_does(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_misnamed", "klp_target")
    (finding,) = check(host, "klp_misnamed")
    assert finding["code"] == "object-never-comes"
    assert host.run(f"insmod {TREE}/klp_misnamed.ko").returncode != 0
    applied = host.run(f"klpctl apply {TREE}/klp_target.ko", check=True)
    assert "klp_target waits for klp_test_target, not loaded now" in applied.stdout
    host.run("klpctl guard open", check=True)
    host.run(f"insmod {TREE}/klp_misnamed.ko", check=True)
    wait_settled(host)
    assert "livepatch" not in host.run("cat /proc/cmdline").stdout
    with_klpd = json.loads(host.run("klpctl list --json", check=True).stdout)
    host.run("systemctl stop klpd", check=True)
    alone = json.loads(host.run("klpctl list --json", check=True).stdout)
    for listed in (with_klpd, alone):
        patched = {each["name"]: each["patched"] for livepatch in listed for each in livepatch["objects"]}
        assert patched == {"vmlinux": False, "klp_test_target": False}
