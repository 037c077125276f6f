# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input gets a clear error, and nothing is lost by it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from klpd.errors import ExitStatus
from klpd.messages import MessageId
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_livepatches, set_policy
from tests.vm.marks import extended

if TYPE_CHECKING:
    from tests.vm.host import Host

pytestmark = extended

POLICY = "/etc/klpd/policy.d/60-broken.toml"

BROKEN = {
    "syntax error": ("[policy\nmode = 1\n", "60-broken.toml:1:"),
    "unknown key": ('[policy]\nmodus = "audit"\n', "60-broken.toml:2:1"),
    "wrong type": ('[policy]\nmode = "audit"\n\n[[state]]\nid = "one"\n', "60-broken.toml:5:"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_policy_file_is_not_taken_and_the_last_good_policy_stays(host: Host, kind: str) -> None:
    set_policy(host, ALLOW_ALL)
    text, place = BROKEN[kind]
    host.write(POLICY, text.encode())
    reload = host.run("systemctl reload klpd")
    assert reload.returncode != 0
    status = json.loads(host.run("klpctl status --json", check=True).stdout)
    assert place in status["policy"]["errors"][0]
    assert status["policy"]["default"] == "allow"
    assert place in journal(host, MessageId.POLICY_REJECTED)[0]["MESSAGE"]
    assert place in host.run("klpctl policy check").stderr
    put_livepatches(host, "klp_add")
    host.run("klpctl apply klp_add.ko", check=True)


def test_with_a_broken_policy_at_its_first_start_klpd_lets_no_livepatch_in(bare_host: Host) -> None:
    bare_host.write("/etc/klpd/policy.d/50-allow.toml", ALLOW_ALL.encode())
    bare_host.write(POLICY, b"[policy]\nmodus = 1\n")
    bare_host.run("systemctl start klpd", check=True)
    shown = bare_host.run("klpctl status", check=True).stdout
    assert "60-broken.toml:2:1" in shown
    assert "built-in" in shown
    put_livepatches(bare_host, "klp_add")
    assert bare_host.run("klpctl apply klp_add.ko").returncode == ExitStatus.VETOED
    bare_host.run(f"rm {POLICY} && systemctl reload klpd", check=True)
    bare_host.run("klpctl apply klp_add.ko", check=True)


FILES = {
    "text": (b"not a module at all\n" * 100, "ELF"),
    "empty": (b"", "ELF"),
    "truncated": (b"\x7fELF\x02\x01\x01" + bytes(60), ""),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("command", ["check", "inspect", "apply"])
def test_what_is_no_module_is_a_usage_error_that_names_the_file(host: Host, kind: str, command: str) -> None:
    data, word = FILES[kind]
    host.write("/root/file.ko", data)
    refused = host.run(f"klpctl {command} file.ko")
    assert refused.returncode == ExitStatus.USAGE
    assert "file.ko" in refused.stderr
    assert word in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_ordinary_module_is_told_from_a_livepatch(host: Host) -> None:
    put_livepatches(host, "klp_ordinary")
    refused = host.run("klpctl check klp_ordinary.ko")
    assert refused.returncode == ExitStatus.USAGE
    assert "not a livepatch" in refused.stderr


def test_a_livepatch_for_another_kernel_is_vetoed_with_both_releases(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_other_kernel")
    refused = host.run("klpctl apply klp_other_kernel.ko")
    assert refused.returncode == ExitStatus.VETOED
    assert host.run("uname -r").stdout.strip() in refused.stdout + refused.stderr
    assert installed(host) == []


def test_without_a_daemon_klpctl_says_so_and_still_checks_and_inspects(bare_host: Host) -> None:
    bare_host.write("/etc/klpd/policy.d/50-allow.toml", ALLOW_ALL.encode())
    put_livepatches(bare_host, "klp_add")
    # klpd is started by whoever calls it on the bus; where an admin forbids that, nobody answers.
    bare_host.run("systemctl mask --now klpd", check=True)
    for command in ("status", "apply klp_add.ko", "disable klp_add", "revert --yes", "reload"):
        refused = bare_host.run(f"klpctl {command}")
        assert refused.returncode == ExitStatus.NO_DAEMON, command
        assert "klpd" in refused.stderr
    checked = bare_host.run("klpctl check klp_add.ko", check=True)
    assert "judged without klpd" in checked.stderr
    assert "0x1003" in bare_host.run("klpctl inspect klp_add.ko", check=True).stdout


def test_an_unprivileged_check_without_a_daemon_says_that_it_cannot_tell(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_cmdline_v1", "klp_cmdline_v2")
    host.run("klpctl apply klp_cmdline_v1.ko", check=True)
    host.run("systemctl mask klpd && systemctl stop klpd && cp klp_cmdline_v2.ko /tmp", check=True)
    checked = host.run("klpctl check /tmp/klp_cmdline_v2.ko", user="alice")
    assert checked.returncode == ExitStatus.CANNOT_TELL


@pytest.mark.parametrize("command", ["", "nonsense", "disable", "check", "revert --to nobody --yes", "disable nobody"])
def test_wrong_usage_has_its_own_exit_status(host: Host, command: str) -> None:
    assert host.run(f"klpctl {command}").returncode == ExitStatus.USAGE
