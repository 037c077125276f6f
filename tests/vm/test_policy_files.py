# SPDX-License-Identifier: GPL-2.0-or-later
"""Which policy files count and in which order, whose they have to be, and what is told where they are not taken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from klpd.errors import ExitStatus
from klpd.messages import MessageId
from klpd.model import Decision, Verdict
from klpd.plain import from_plain
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_into_tree, put_livepatches, set_policy, wait_settled
from tests.vm.marks import extended

if TYPE_CHECKING:
    from tests.vm.host import Host

pytestmark = extended

VENDOR: Final = "/usr/lib/klpd/policy.d/20-vendor.toml"
SITE: Final = "/etc/klpd/policy.d/50-test.toml"
MORE: Final = "/etc/klpd/policy.d/60-more.toml"
ALLOW_RULE: Final = '[[livepatch]]\nmatch = { name = "klp_*" }\nverdict = "allow"\n'
DENY_ADD: Final = '[[livepatch]]\nmatch = { name = "klp-add" }\nverdict = "deny"\nreason = "withdrawn"\n'
ROOT_ALONE: Final = "what klpd goes by is for root alone to say; chown root and chmod go-w it"


def load(host: Host, name: str) -> str:
    """insmod of a livepatch in the module tree; what it complains about."""
    return host.run(f"insmod /lib/modules/$(uname -r)/updates/{name}.ko").stderr


def test_a_sites_denial_beats_a_vendors_permission_whatever_the_order_of_reading(host: Host) -> None:
    host.write(VENDOR, ALLOW_RULE.encode())
    set_policy(host, DENY_ADD)
    put_into_tree(host, "klp_add", "klp_cmdline_v1")
    assert "Operation not permitted" in load(host, "klp_add")
    (veto,) = journal(host, MessageId.LOAD_VETOED)
    assert veto["KLPD_RULE"] == f"{SITE}:1"
    assert "withdrawn" in veto["KLPD_REASON"]
    assert load(host, "klp_cmdline_v1") == ""
    assert host.run("klpctl policy check", check=True).stderr == ""
    host.write(MORE, b'[[livepatch]]\nmatch = { name = "klp*" }\nverdict = "deny"\n')
    told = host.run("klpctl policy check", check=True).stderr
    for shadowed in (f"{VENDOR}:1", f"{SITE}:1"):
        assert f"{shadowed}: warning: this rule never decides anything: {MORE}:1 is asked before it" in told


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (f"chown alice {MORE}", f"{MORE}: it belongs to user "),
        (f"chmod o+w {MORE}", f"{MORE}: it can be written by others than root"),
        ("chmod 1777 /etc/klpd/policy.d", "/etc/klpd/policy.d: it can be written by others than root"),
        ("chmod g+w /etc/klpd", "/etc/klpd/policy.d: /etc/klpd, on the way to it, can be written by others than root"),
        (
            f"mkdir /srv/drop && chmod 777 /srv/drop && mv {MORE} /srv/drop/ && ln -s /srv/drop/60-more.toml {MORE}",
            f"{MORE}: /srv/drop, on the way to it, can be written by others than root",
        ),
    ],
    ids=["owner", "mode", "sticky directory", "directory above", "link"],
)
def test_files_that_others_may_write_are_not_taken_and_the_gate_stays_as_it_was(
    host: Host, spoil: str, what: str
) -> None:
    put_into_tree(host, "klp_add")
    host.write(MORE, ALLOW_RULE.encode())
    host.run(spoil, check=True)
    reload = host.run("klpctl reload")
    assert reload.returncode == ExitStatus.USAGE
    assert what in reload.stderr
    assert ROOT_ALONE in reload.stderr
    assert host.run("systemctl reload klpd").returncode != 0
    status = json.loads(host.run("klpctl status --json", check=True).stdout)
    assert what in status["policy"]["errors"][0]
    assert "Operation not permitted" in load(host, "klp_add")
    checked = host.run("klpctl policy check")
    assert checked.returncode == ExitStatus.USAGE
    assert what in checked.stderr
    assert "--unsafe" in checked.stderr
    host.run("klpctl policy check --unsafe", check=True)


def test_with_files_that_others_may_write_klpd_starts_with_its_own_policy_until_they_are_roots(host: Host) -> None:
    put_into_tree(host, "klp_add")
    host.write(MORE, ALLOW_RULE.encode())
    host.run(f"chmod 666 {MORE} && systemctl restart klpd", check=True)
    assert "built-in" in host.run("klpctl status", check=True).stdout
    assert "Operation not permitted" in load(host, "klp_add")
    host.run(f"chmod go-w {MORE} && systemctl reload klpd", check=True)
    assert load(host, "klp_add") == ""


def test_an_ordinary_user_checks_his_own_files_with_unsafe(host: Host) -> None:
    host.write("/tmp/mine.toml", ALLOW_RULE.encode())
    host.run("chown alice /tmp/mine.toml", check=True)
    refused = host.run("klpctl policy check /tmp/mine.toml", user="alice")
    assert refused.returncode == ExitStatus.USAGE
    assert "klpctl policy check --unsafe" in refused.stderr
    assert host.run("klpctl policy check --unsafe /tmp/mine.toml", user="alice").stdout == "/tmp/mine.toml: ok\n"


@pytest.mark.parametrize("directory", ["/etc/klpd/policy.d", "/etc/klpd/livepatches.d", "/etc/klpd"])
def test_a_directory_that_leads_to_nothing_is_not_an_empty_one(host: Host, directory: str) -> None:
    put_into_tree(host, "klp_add")
    set_policy(host, DENY_ADD)
    host.write(VENDOR, ALLOW_RULE.encode())
    host.run(f"if test -e {directory}; then mv {directory} /root/away; fi; ln -s /nonexistent {directory}", check=True)
    reload = host.run("klpctl reload")
    assert reload.returncode == ExitStatus.USAGE
    assert "a link leads to /nonexistent" in reload.stderr
    assert "Operation not permitted" in load(host, "klp_add")


def test_a_reload_tells_everything_that_is_wrong(host: Host) -> None:
    host.write(SITE, b"[policy]\nmodus = 1\nmode = 2\n")
    host.write(MORE, b"[[livepatch]]\nmatch = { name = 'lp_[[:digit:]]' }\nverdict = 'deny'\n")
    host.run("mkdir -p /etc/klpd/livepatches.d && echo x = 1 > /etc/klpd/livepatches.d/lp.toml", check=True)
    reload = host.run("klpctl reload")
    assert reload.returncode == ExitStatus.USAGE
    places = [each.split(": ")[1] for each in reload.stderr.splitlines()]
    manifest = "/etc/klpd/livepatches.d/lp.toml"
    assert places == [f"{SITE}:2:1", f"{SITE}:3:8", f"{MORE}:2:18", f"{manifest}:1:1", f"{manifest}:1:1"]
    assert host.run("systemctl reload klpd").returncode != 0
    told = host.run("journalctl --sync; journalctl --unit klpd --output cat").stdout
    assert all(f"{each}:" in told for each in places)


def test_a_veto_has_its_entry_however_much_there_is_to_say(host: Host) -> None:
    put_into_tree(host, "klp_add")
    set_policy(host, DENY_ADD.replace("withdrawn", "r" * 300))
    assert "Operation not permitted" in load(host, "klp_add")
    (veto,) = journal(host, MessageId.LOAD_VETOED)
    assert "r" * 300 in veto["KLPD_REASON"]
    host.write(SITE, DENY_ADD.replace("withdrawn", "r" * 301).encode())
    assert "reason: has 301 characters; at most 300 are taken" in host.run("klpctl reload").stderr
    # As many states as there may be, each with a rule of its own and a name as long as it may be.
    digest = host.run("sha256sum /root/klp_add.ko", check=True).stdout.split()[0]
    declared = f'[livepatch]\nsha256 = "{digest}"\n'
    rules = ""
    for number in range(1, 257):
        declared += f"[[state]]\nid = {number}\nversion = 1\n"
        rules += f'[[state]]\nid = {number}\nname = "{"n" * 300}"\nintroduce = "deny"\n'
    host.run("mkdir -p /etc/klpd/livepatches.d", check=True)
    host.write("/etc/klpd/livepatches.d/klp_add.toml", declared.encode())
    set_policy(host, ALLOW_ALL + rules)
    assert "Operation not permitted" in load(host, "klp_add")
    shown = host.run(f"journalctl --sync; journalctl --all --output json MESSAGE_ID={MessageId.LOAD_VETOED}").stdout
    _first, veto = (json.loads(each) for each in shown.splitlines())
    assert journal(host, MessageId.LOAD_VETOED)[1]["MESSAGE"] == veto["MESSAGE"]
    assert veto["MESSAGE"].startswith("vetoed: insmod[")
    assert {"KLPD_FINDINGS", "KLPD_REASON"} <= set(veto["KLPD_CUT"].split())
    verdict = from_plain(Verdict, json.loads(veto["KLPD_FINDINGS"]))
    assert verdict.decision is Decision.DENY
    assert verdict.reasons
    assert "vetoed" in host.run("klpctl log -n 1", check=True).stdout
    nothing = host.run("klpctl log -n 0", check=True)
    assert (nothing.stdout, nothing.stderr) == ("", "")


def test_who_may_not_read_the_policy_is_told_that_he_cannot_tell_and_is_shown_the_rest(host: Host) -> None:
    put_livepatches(host, "klp_add")
    host.run("cp /root/klp_add.ko /tmp/ && chmod 644 /tmp/klp_add.ko", check=True)
    set_policy(host, DENY_ADD)
    host.run(f"chmod 600 {SITE} && systemctl mask klpd && systemctl stop klpd", check=True)
    checked = host.run("klpctl check /tmp/klp_add.ko", user="alice")
    assert checked.returncode == ExitStatus.CANNOT_TELL
    assert f"{SITE}: cannot be read: Permission denied" in checked.stderr
    printed = host.run("klpctl policy cat", user="alice")
    assert printed.returncode == ExitStatus.USAGE
    assert "# /usr/lib/klpd/policy.d/10-klpd.toml\n" in printed.stdout
    assert "50-test.toml" in printed.stderr


def test_a_leftover_that_apply_would_remove_is_told_with_apply(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add")
    host.run("klpctl apply klp_add.ko", check=True)
    wait_settled(host)
    host.run("echo 0 > /sys/kernel/livepatch/klp_add/enabled", check=True)
    host.run("while test -e /sys/kernel/livepatch/klp_add; do sleep 0.1; done", check=True, timeout=60)
    checked = host.run("klpctl check klp_add.ko")
    assert checked.returncode == ExitStatus.VETOED
    assert "klpctl apply" in checked.stdout
    host.run("klpctl apply klp_add.ko", check=True)
    assert installed(host) == ["klp_add"]


def test_a_declaration_of_no_states_that_is_contradicted_keeps_a_livepatch_out(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_cmdline_v1")
    digest = host.run("sha256sum /root/klp_cmdline_v1.ko", check=True).stdout.split()[0]
    manifest = "/root/klp_cmdline_v1.livepatch.toml"
    host.write(manifest, f'[livepatch]\nsha256 = "{digest}"\nstateless = true\n'.encode())
    checked = host.run(f"klpctl manifest check {manifest} klp_cmdline_v1.ko")
    assert checked.returncode == ExitStatus.USAGE
    assert f"{manifest}:3: klp_cmdline_v1 is declared to change no state, but it carries state" in checked.stderr
    refused = host.run("klpctl apply klp_cmdline_v1.ko")
    assert refused.returncode == ExitStatus.VETOED
    assert "is declared to change no state" in refused.stdout + refused.stderr
