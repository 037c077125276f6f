# SPDX-License-Identifier: GPL-2.0-or-later
"""A host without BPF LSM: what fanotify alone refuses, what it lets alone, and what is left to reconcile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from klpd.errors import ExitStatus
from klpd.messages import MessageId
from tests.vm.boot import Options
from tests.vm.host import TIMEOUT
from tests.vm.livepatches import (
    ALLOW_ALL,
    installed,
    journal,
    put_into_tree,
    put_livepatches,
    set_policy,
    wait_settled,
)
from tests.vm.loading import loaders
from tests.vm.marks import extended, on_every_kernel
from tests.vm.test_declared import manifest
from tests.vm.test_hold import (
    DUMMY,
    PATIENT,
    REFUSED,
    TREE,
    klpd,
    signal_klpd,
    soon,
    tree,
    wait_for_another,
)
from tests.vm.test_reconcile import POLICY, drift

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.channel import RemoteCommand
    from tests.vm.host import Host
    from tests.vm.kernel import Kernel

pytestmark = extended

NO_BPF: Final = "lsm=lockdown,capability,apparmor"
AUDIT: Final = '[policy]\nmode = "audit"\n'


@pytest.fixture
def host(boot: Callable[[Options], Host], kernel: Kernel) -> Host:
    """A host with klpd running, and no BPF among its kernel's security modules."""
    return boot(Options(kernel=kernel, kernel_arguments=(NO_BPF,)))


def guard(host: Host) -> tuple[str, str]:
    """The guard's state, and what is told of it."""
    told = json.loads(host.run("klpctl status --json", check=True).stdout)["defences"]
    return next((each["state"], each["detail"]) for each in told if each["name"] == "guard")


def spawn_loading(host: Host, path: str) -> RemoteCommand:
    """Start a loader whose file is open before klpd stops; come back when the read of its load is held."""
    loaders(host, "swap", "/dev/null", "/dev/null")  # puts the script there
    running = host.spawn(f"exec python3 -I loaders.py load-when {path} /root/opened /root/go")
    host.run("until test -e opened; do sleep 0.1; done", check=True, timeout=30)
    signal_klpd(host, "STOP")
    stack = "/proc/$(pgrep --newest --full '^python3 -I loaders.py load-when')/stack"
    host.run(f"touch go; until grep -qs finit_module {stack}; do sleep 0.1; done", check=True, timeout=30)
    host.run(f"grep -q fanotify_handle_event {stack}", check=True)
    return running


@on_every_kernel
def test_a_denied_livepatch_of_a_watched_directory_is_refused_and_nothing_of_it_runs(host: Host) -> None:
    put_into_tree(host, "klp_add")
    for _load in range(2):
        refused = host.run(f"insmod {TREE}/klp_add.ko")
        assert refused.returncode != 0
        assert REFUSED in refused.stderr
    assert installed(host) == []
    assert "klp_add" not in host.run("cat /proc/modules").stdout
    assert "klp_add" not in host.run("dmesg").stdout
    entries = journal(host, MessageId.LOAD_VETOED)
    assert len(entries) == 2
    assert (entries[0]["KLPD_LIVEPATCH"], entries[0]["KLPD_COMMAND"]) == ("klp_add", "insmod")
    assert (entries[0]["KLPD_WAY"], entries[0]["KLPD_UID"]) == ("finit_module", "0")
    assert entries[0]["KLPD_FILE"].endswith("/updates/klp_add.ko")
    assert "10-klpd.toml" in entries[0]["KLPD_RULE"]


@on_every_kernel
def test_an_allowed_one_loads_is_recorded_once_and_stays_no_drift_under_a_stricter_policy(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_add")
    host.run(f"insmod {TREE}/klp_add.ko", check=True)
    wait_settled(host)
    assert installed(host) == ["klp_add"]
    assert [each["KLPD_WAY"] for each in journal(host, MessageId.LOAD_APPROVED)] == ["finit_module"]
    host.run(f"rm {POLICY} && systemctl restart klpd", check=True)
    assert drift(host) == []


def test_what_a_job_loaded_stays_no_drift_under_a_stricter_policy(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add")
    host.run("klpctl apply klp_add.ko", check=True)
    host.run(f"rm {POLICY} && systemctl restart klpd", check=True)
    assert drift(host) == []


def test_declared_states_are_kept_as_with_a_guard(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_declared", "klp_add_stateless")
    host.run(f"insmod {TREE}/klp_declared.ko", check=True)
    wait_settled(host)
    beside = host.run(f"echo {TREE}/klp_add_stateless.livepatch.toml", check=True).stdout.strip()
    host.write(beside, manifest(host, "klp_add_stateless", "id = 0x2003\nversion = 1\n"))
    assert REFUSED in host.run(f"insmod {TREE}/klp_add_stateless.ko").stderr
    assert "klp_declared has installed version 2" in journal(host, MessageId.LOAD_VETOED)[-1]["KLPD_REASON"]
    host.write(beside, manifest(host, "klp_add_stateless", "id = 0x2003\nversion = 2\n"))
    host.run(f"insmod {TREE}/klp_add_stateless.ko", check=True)
    assert installed(host) == ["klp_add_stateless", "klp_declared"]


def test_a_livepatch_that_cannot_be_read_is_refused(host: Host) -> None:
    put_into_tree(host, "klp_add")
    host.run(f"truncate --size 3000 {TREE}/klp_add.ko", check=True)
    assert REFUSED in host.run(f"insmod {TREE}/klp_add.ko").stderr
    (entry,) = journal(host, MessageId.LOAD_VETOED)
    assert "KLPD_REASON" in entry


def test_who_only_reads_a_denied_livepatch_may(host: Host) -> None:
    put_into_tree(host, "klp_add")
    for reader in ("modinfo", "sha256sum", "cp -t /tmp", "tar --create --file /tmp/backup.tar"):
        host.run(f"{reader} {TREE}/klp_add.ko", check=True)
    host.run(f"cmp klp_add.ko {TREE}/klp_add.ko && cmp klp_add.ko /tmp/klp_add.ko && depmod", check=True)
    assert journal(host, MessageId.LOAD_VETOED) == []
    assert journal(host, MessageId.HOLD_TIMED_OUT) == []


def test_ordinary_modules_load_and_do_not_reach_klpd_again(host: Host) -> None:
    set_policy(host, PATIENT)
    host.run(f"insmod {DUMMY} && rmmod dummy", check=True)
    signal_klpd(host, "STOP")
    assert host.run(f"timeout 20 insmod {DUMMY}").returncode == 0
    signal_klpd(host, "CONT")


def test_a_loader_on_any_thread_is_refused(host: Host) -> None:
    put_into_tree(host, "klp_add")
    assert loaders(host, "on-a-thread", f"{TREE}/klp_add.ko") == "EPERM"
    (entry,) = journal(host, MessageId.LOAD_VETOED)
    assert entry["KLPD_COMMAND"] == "python3"


def test_a_file_whose_content_is_swapped_between_open_and_load_is_judged_as_it_is_loaded(host: Host) -> None:
    set_policy(host, ALLOW_ALL + '\n[[livepatch]]\nmatch = { name = "klp_other" }\nverdict = "deny"\n')
    put_into_tree(host, "klp_add")
    put_livepatches(host, "klp_other")
    assert loaders(host, "swap", f"{TREE}/klp_add.ko", "/root/klp_other.ko") == "EPERM"
    assert installed(host) == []


def test_of_64_loaders_at_once_one_succeeds_and_nobody_hangs(host: Host) -> None:
    set_policy(host, PATIENT)
    put_into_tree(host, "klp_add")
    ended = loaders(host, "at-once", f"{TREE}/klp_add.ko", "64")
    assert ended["ok"] == 1
    assert sum(ended.values()) == 64
    assert installed(host) == ["klp_add"]
    assert journal(host, MessageId.HOLD_TIMED_OUT) == []


def test_audit_mode_lets_in_what_the_policy_denies_and_records_it(host: Host) -> None:
    set_policy(host, AUDIT)
    put_into_tree(host, "klp_add")
    host.run(f"insmod {TREE}/klp_add.ko", check=True)
    wait_settled(host)
    (entry,) = journal(host, MessageId.LOAD_AUDITED)
    assert (entry["KLPD_LIVEPATCH"], entry["KLPD_DECISION"]) == ("klp_add", "deny")
    assert guard(host)[0] == "down"


def test_when_klpd_is_killed_whoever_is_loading_goes_on(host: Host) -> None:
    put_into_tree(host, "klp_add", "klp_cmdline_v1")
    set_policy(host, PATIENT.replace("allow", "deny"))
    before = klpd(host)
    loader = spawn_loading(host, f"{tree(host)}/klp_add.ko")
    signal_klpd(host, "KILL")
    assert loader.wait(TIMEOUT) == 0
    assert json.loads(loader.stdout) == "ok"
    wait_for_another(host, before)
    assert REFUSED in host.run(f"insmod {TREE}/klp_cmdline_v1.ko").stderr
    assert drift(host) == ["klp_add"]


def test_a_loader_that_is_killed_while_it_is_held_is_no_trouble(host: Host) -> None:
    put_into_tree(host, "klp_add")
    set_policy(host, PATIENT.replace("allow", "deny"))
    before = klpd(host)
    loader = spawn_loading(host, f"{tree(host)}/klp_add.ko")
    loader.kill()
    assert loader.wait(TIMEOUT) != 0
    signal_klpd(host, "CONT")
    assert REFUSED in host.run(f"insmod {TREE}/klp_add.ko").stderr
    assert installed(host) == []
    assert klpd(host) == before


@pytest.mark.parametrize("way", ["memfd", "buffer"])
def test_what_comes_by_another_way_comes_in_and_is_reported(host: Host, way: str) -> None:
    put_into_tree(host, "klp_add")
    assert loaders(host, "unseen", way, f"{TREE}/klp_add.ko") == "ok"
    wait_settled(host)
    assert drift(host) == ["klp_add"]
    (entry,) = journal(host, MessageId.DRIFT_FOUND)
    assert entry["KLPD_LIVEPATCH"] == "klp_add"


def test_what_comes_from_a_directory_that_is_not_watched_is_taken_out_where_the_policy_says_so(host: Host) -> None:
    set_policy(host, '[policy]\non-drift = "disable"\n')
    put_livepatches(host, "klp_add")
    host.run("insmod klp_add.ko", check=True)
    soon(host, "! test -e /sys/module/klp_add")


def test_the_status_says_what_is_refused_and_what_is_left_open(host: Host) -> None:
    state, detail = guard(host)
    assert state == "degraded"
    for each in ('"bpf" is not among the active', "finit_module", "init_module", "memfd", "elsewhere", "compressed"):
        assert each in detail
    assert host.run("klpctl guard status").returncode == ExitStatus.FAILED


def test_the_mark_of_an_open_gate_is_heeded(host: Host) -> None:
    put_into_tree(host, "klp_add")
    host.run("touch /run/klpd/guard-open", check=True)
    host.run(f"insmod {TREE}/klp_add.ko", check=True)
    assert guard(host)[0] == "down"
    assert len(journal(host, MessageId.LOAD_AUDITED)) == 1


def test_where_klpd_may_not_see_who_is_loading_it_says_that_nothing_is_refused(boot: Callable[[Options], Host]) -> None:
    host = boot(Options(kernel_arguments=("lsm=lockdown,capability,yama",)))
    host.run("sysctl -q kernel.yama.ptrace_scope=3 && systemctl restart klpd", check=True)
    state, detail = guard(host)
    assert state == "down"
    assert "nor can fanotify refuse anything: cannot read /proc/1/syscall" in detail
    put_into_tree(host, "klp_add")
    host.run(f"insmod {TREE}/klp_add.ko", check=True)


def test_with_the_guard_switched_off_nothing_is_refused(boot: Callable[[Options], Host]) -> None:
    host = boot(Options(kernel_arguments=(NO_BPF, "klpd.guard=off")))
    put_into_tree(host, "klp_add")
    host.run(f"insmod {TREE}/klp_add.ko", check=True)
    assert guard(host)[0] == "down"
    assert journal(host, MessageId.LOAD_AUDITED) == []
