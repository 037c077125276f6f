# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd's main job, from a module file to a verdict that the kernel obeys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from klpd.errors import ExitStatus
from klpd.messages import MessageId
from tests.vm.livepatches import (
    ALLOW_ALL,
    ALLOW_GAPS,
    installed,
    journal,
    put_into_tree,
    put_livepatches,
    set_policy,
    wait_settled,
)
from tests.vm.marks import on_every_kernel, on_the_newest_too

if TYPE_CHECKING:
    from tests.vm.host import Host

TREE = "/lib/modules/$(uname -r)/updates"

STICKY = """
[policy]
default = "allow"

[[state]]
id = 0x2001
name = "locks"
sticky = true
"""


@on_the_newest_too
def test_all_lines_of_defence_are_up(host: Host) -> None:
    status = json.loads(host.run("klpctl status --json", check=True).stdout)
    assert {each["name"]: each["state"] for each in status["defences"]} == {
        "hold": "up",
        "guard": "up",
        "reconcile": "up",
        "state": "up",
    }


@on_the_newest_too
def test_apply_loads_and_waits_and_the_next_version_replaces_it(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_cmdline_v1", "klp_cmdline_v2")
    host.run("klpctl apply klp_cmdline_v1.ko", check=True)
    assert "livepatch: klp_cmdline_v1" in host.run("cat /proc/cmdline").stdout
    host.run("klpctl apply klp_cmdline_v2.ko", check=True)
    assert "livepatch: klp_cmdline_v2" in host.run("cat /proc/cmdline").stdout
    assert installed(host) == ["klp_cmdline_v2"]
    assert "klp_cmdline_v1" not in host.run("cat /proc/modules").stdout


def test_applying_what_is_applied_is_success_and_said(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_cmdline_v1")
    host.run("klpctl apply klp_cmdline_v1.ko", check=True)
    again = host.run("klpctl apply klp_cmdline_v1.ko", check=True)
    assert "nothing to do" in again.stdout


@on_the_newest_too
def test_a_downgrade_by_plain_insmod_is_vetoed_before_any_code_of_the_module_runs(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_cmdline_v1", "klp_cmdline_v2")
    host.run("klpctl apply klp_cmdline_v2.ko", check=True)
    host.run("dmesg --clear")
    refused = host.run(f"insmod {TREE}/klp_cmdline_v1.ko")
    assert refused.returncode != 0
    assert "Operation not permitted" in refused.stderr
    assert "livepatch" not in host.run("dmesg").stdout
    (entry,) = journal(host, MessageId.LOAD_VETOED)
    assert entry["KLPD_LIVEPATCH"] == "klp_cmdline_v1"
    assert entry["KLPD_COMMAND"] == "insmod"
    assert "klp_is_patch_compatible" in entry["KLPD_RULE"]
    assert "klp_cmdline_v1" in host.run("klpctl log").stdout
    assert installed(host) == ["klp_cmdline_v2"]


def test_an_approvable_livepatch_goes_through_with_plain_insmod(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_add")
    host.run(f"insmod {TREE}/klp_add.ko", check=True)
    wait_settled(host)
    assert installed(host) == ["klp_add"]
    (entry,) = journal(host, MessageId.LOAD_APPROVED)
    assert (entry["KLPD_LIVEPATCH"], entry["KLPD_COMMAND"]) == ("klp_add", "insmod")


def test_a_livepatch_from_a_directory_that_is_not_watched_is_refused_with_a_way_out(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add")
    assert host.run("insmod klp_add.ko").returncode != 0
    (entry,) = journal(host, MessageId.LOAD_VETOED)
    assert "klpctl apply" in entry["MESSAGE"]
    host.run("klpctl apply klp_add.ko", check=True)


def test_a_directory_that_the_policy_names_is_watched(host: Host) -> None:
    put_livepatches(host, "klp_add")
    set_policy(host, '[policy]\ndefault = "allow"\ndirectories = ["/root"]\n')
    host.run("insmod klp_add.ko", check=True)


def test_vetoed_files_can_be_read_by_everyone(host: Host) -> None:
    put_into_tree(host, "klp_add")
    for command in ("modinfo", "sha256sum", "cp --target-directory=/tmp"):
        host.run(f"{command} {TREE}/klp_add.ko", check=True)
    host.run("depmod --all", check=True)


def test_ordinary_modules_are_none_of_klpds_business(host: Host) -> None:
    host.run("modprobe dummy && rmmod dummy && modprobe dummy", check=True)
    assert journal(host, MessageId.LOAD_VETOED) == []


def test_without_a_rule_for_it_no_livepatch_comes_in(host: Host) -> None:
    put_livepatches(host, "klp_add")
    refused = host.run("klpctl apply klp_add.ko")
    assert refused.returncode == ExitStatus.VETOED
    assert installed(host) == []


def test_a_sticky_state_stays_and_the_refusal_names_file_and_line(host: Host) -> None:
    set_policy(host, STICKY)
    put_livepatches(host, "klp_sticky", "klp_add")
    host.run("klpctl apply klp_sticky.ko", check=True)
    host.run("klpctl apply klp_add.ko", check=True)
    refused = host.run("klpctl disable klp_sticky")
    assert refused.returncode == ExitStatus.VETOED
    assert "/etc/klpd/policy.d/50-test.toml:8" in refused.stdout + refused.stderr
    host.run("klpctl disable klp_add", check=True)
    assert installed(host) == ["klp_sticky"]
    assert "klp_add" not in host.run("cat /proc/modules").stdout


@on_every_kernel
def test_revert_goes_back_by_way_of_the_unpatched_kernel_where_versions_fall(host: Host) -> None:
    set_policy(host, ALLOW_GAPS)
    put_livepatches(host, "klp_cmdline_v1", "klp_cmdline_v2")
    host.run("klpctl apply klp_cmdline_v1.ko && klpctl apply klp_cmdline_v2.ko", check=True)
    plan = json.loads(host.run("klpctl plan revert --json", check=True).stdout)
    assert [(each["action"], each["livepatch"]) for each in plan["steps"]] == [
        ("disable", "klp_cmdline_v2"),
        ("remove", "klp_cmdline_v2"),
        ("load", "klp_cmdline_v1"),
    ]
    assert plan["gap"] is True
    host.run("klpctl revert --yes", check=True)
    assert installed(host) == ["klp_cmdline_v1"]
    host.run("klpctl revert --yes", check=True)
    assert installed(host) == []


def test_a_revert_with_a_gap_is_refused_unless_the_policy_allows_it(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_cmdline_v1", "klp_cmdline_v2")
    host.run("klpctl apply klp_cmdline_v1.ko && klpctl apply klp_cmdline_v2.ko", check=True)
    refused = host.run("klpctl revert --yes")
    assert refused.returncode == ExitStatus.VETOED
    assert "/usr/lib/klpd/policy.d/10-klpd.toml:" in refused.stdout + refused.stderr
    assert "allow-unpatched-gap" in refused.stdout + refused.stderr
    assert installed(host) == ["klp_cmdline_v2"]


def test_one_livepatch_is_exchanged_for_another_without_a_gap_where_both_may_be_there(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add_stateless", "klp_stateless")
    host.run("klpctl apply klp_add_stateless.ko && klpctl apply klp_stateless.ko", check=True)
    plan = json.loads(host.run("klpctl plan revert --json", check=True).stdout)
    assert [(each["action"], each["livepatch"]) for each in plan["steps"]] == [
        ("load", "klp_add_stateless"),
        ("disable", "klp_stateless"),
        ("remove", "klp_stateless"),
    ]
    assert plan["gap"] is False
    host.run("klpctl revert --yes", check=True)
    assert installed(host) == ["klp_add_stateless"]
    assert "livepatch: klp_add_stateless" in host.run("cat /proc/version").stdout


def test_revert_to_original_unpatches_the_kernel(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_cmdline_v1", "klp_add")
    host.run("klpctl apply klp_cmdline_v1.ko && klpctl apply klp_add.ko", check=True)
    host.run("klpctl revert --to original --yes", check=True)
    assert installed(host) == []
    assert "klp_" not in host.run("cat /proc/modules").stdout


def test_what_was_loaded_with_insmod_can_be_reverted_to(host: Host) -> None:
    set_policy(host, ALLOW_GAPS)
    put_into_tree(host, "klp_cmdline_v1", "klp_cmdline_v2")
    host.run(f"insmod {TREE}/klp_cmdline_v1.ko", check=True)
    wait_settled(host)
    host.run("sleep 1; klpctl apply klp_cmdline_v2.ko", check=True)
    host.run("klpctl revert --yes", check=True)
    assert installed(host) == ["klp_cmdline_v1"]


@pytest.mark.parametrize(
    ("file", "status", "word"),
    [
        ("klp_cmdline_v2", ExitStatus.OK, "approved"),
        ("klp_cmdline_v1", ExitStatus.VETOED, "vetoed"),
        ("klp_other_kernel", ExitStatus.VETOED, "vetoed"),
    ],
)
def test_check_says_by_its_exit_status_what_would_happen(host: Host, file: str, status: ExitStatus, word: str) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, file, "klp_cmdline_v2")
    host.run("klpctl apply klp_cmdline_v2.ko", check=True)
    if status is ExitStatus.OK:
        host.run("klpctl disable klp_cmdline_v2", check=True)
    checked = host.run(f"klpctl check {file}.ko")
    assert checked.returncode == status
    assert word in checked.stdout


def test_a_pre_patch_callback_that_fails_is_reported_and_leaves_nothing(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_fails")
    failed = host.run("klpctl apply klp_fails.ko")
    assert failed.returncode == ExitStatus.FAILED
    assert "No such device" in failed.stdout + failed.stderr
    assert installed(host) == []


def test_a_livepatch_of_a_module_that_comes_later_is_applied(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_target", "klp_test_target")
    host.run("klpctl apply klp_target.ko", check=True)
    host.run("insmod klp_test_target.ko", check=True)
    assert "livepatch: klp_target" in host.run("cat /proc/klp_test_target/show").stdout


def test_every_caller_may_look_and_only_root_may_change(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add")
    host.run("cp klp_add.ko /tmp && chmod 644 /tmp/klp_add.ko", check=True)
    host.run("klpctl status", user="alice", check=True)
    host.run("klpctl check /tmp/klp_add.ko", user="alice", check=True)
    refused = host.run("klpctl apply /tmp/klp_add.ko", user="alice")
    assert refused.returncode == ExitStatus.NOT_AUTHORIZED
    assert installed(host) == []


def test_the_gate_stays_closed_when_klpd_stops(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_add")
    host.run("systemctl stop klpd", check=True)
    assert "Operation not permitted" in host.run(f"insmod {TREE}/klp_add.ko").stderr
    host.run("modprobe dummy", check=True)
    host.run("systemctl start klpd", check=True)
    host.run(f"insmod {TREE}/klp_add.ko", check=True)


def test_the_daemon_takes_part_in_the_watchdog_and_survives_it(host: Host) -> None:
    properties = host.run("systemctl show klpd -p WatchdogUSec -p Type -p NRestarts").stdout
    assert "Type=notify" in properties
    assert "WatchdogUSec=1min" in properties
    assert "NRestarts=0" in properties
