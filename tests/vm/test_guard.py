# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard on a real kernel: what it refuses, what it lets pass, and what it tells."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest

from klpd.module import is_livepatch
from tests.livepatches.evasions import BROKEN, EVASIONS
from tests.vm.lab import Lab, livepatch_bytes
from tests.vm.marks import on_every_kernel

if TYPE_CHECKING:
    from tests.vm.host import Host

NAME: Final = "klp_cmdline_v1"
WAYS: Final = ("file", "memfd", "buffer")
MINUTE: Final = 60


@pytest.fixture
def lab(bare_host: Host) -> Lab:
    return Lab(bare_host)


@pytest.fixture
def closed(lab: Lab) -> Lab:
    assert lab("close")["state"] == "closed"
    return lab


@pytest.mark.parametrize("way", WAYS)
def test_an_unapproved_livepatch_is_refused_before_any_of_its_code_runs(closed: Lab, way: str) -> None:
    path = closed.livepatch(NAME)
    closed.host.run("dmesg --clear")
    assert closed.load(way, path) == "EPERM"
    assert closed.host.run("dmesg").stdout == ""
    assert NAME not in closed.host.run("cat /proc/modules").stdout


@pytest.mark.parametrize("way", WAYS)
def test_an_approved_livepatch_is_loaded(closed: Lab, way: str) -> None:
    path = closed.livepatch(NAME)
    closed("approve", path, MINUTE)
    assert closed.load(way, path) == "ok"
    assert NAME in closed.host.run("cat /proc/cmdline").stdout


def test_a_refusal_tells_who_wanted_what(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    closed.load("file", path)
    (event,) = closed("events")
    data = livepatch_bytes(NAME)
    assert event.pop("time_ns") > 0
    assert event.pop("pid") == event.pop("tid") > 0
    assert event == {
        "generation": 1,
        "lock": "load",
        "way": "finit_module",
        "input": "livepatch",
        "verdict": "unapproved",
        "allowed": False,
        "mode": "enforce",
        "uid": 0,
        "command": "python3",
        "module": NAME,
        "size": len(data),
        "digest": hashlib.sha256(data).hexdigest(),
        "token": 0,
    }


@pytest.mark.parametrize("tool", ["insmod", "modprobe"])
def test_tools_are_refused_like_anybody(closed: Lab, tool: str) -> None:
    path = closed.livepatch(NAME)
    closed.host.run(
        f"mkdir -p /lib/modules/$(uname -r)/updates && cp {path} /lib/modules/$(uname -r)/updates", check=True
    )
    closed.host.run("depmod -a", check=True)
    refused = closed.host.run(f"{tool} {path if tool == 'insmod' else NAME}")
    assert refused.returncode != 0
    assert "Operation not permitted" in refused.stderr


def test_an_approval_is_used_up(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    closed("approve", path, MINUTE)
    assert closed.load("file", path) == "ok"
    assert closed.load("file", path) == "EPERM"
    assert [each["verdict"] for each in closed("events") if "verdict" in each] == ["allowed", "unapproved"]


def test_of_many_loaders_at_once_one_uses_the_approval(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    closed("approve", path, MINUTE)
    assert sorted(closed("load_at_once", "memfd", path, 24)) == ["EPERM"] * 23 + ["ok"]


def test_a_withdrawn_approval_is_none(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    closed("approve", path, MINUTE)
    assert closed("withdraw", path) is True
    assert closed.load("file", path) == "EPERM"
    assert closed("withdraw", path) is False


def test_an_approval_expires(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    closed("approve", path, 0.01)
    assert closed.load("file", path) == "EPERM"
    assert [each["verdict"] for each in closed("events")] == ["expired"]


def test_of_too_many_approvals_the_newest_are_kept(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    closed("approve_many", 5000)
    closed("approve", path, MINUTE)
    assert closed.load("file", path) == "ok"


@on_every_kernel
@pytest.mark.parametrize(
    ("case", "answer", "verdict"),
    [
        ("good", "ok", "allowed"),
        ("audited", "ok", "audited"),
        ("for another process", "EPERM", "unapproved"),
        ("nobody claims", "EPERM", "orphaned"),
        ("another epoch", "EPERM", "superseded"),
    ],
)
def test_klpds_approval_is_good_for_one_process_in_one_epoch_while_klpd_lives(
    closed: Lab, case: str, answer: str, verdict: str
) -> None:
    path = closed.livepatch(NAME)
    assert closed("approve_others", path, case) == answer
    event = closed("events")[0]
    assert (event["verdict"], event["allowed"]) == (verdict, answer == "ok")
    assert event["token"] == (7 if verdict != "unapproved" else 0)


@on_every_kernel
def test_what_a_killed_klpd_has_approved_is_void_at_once(closed: Lab) -> None:
    assert closed("orphan", closed.livepatch(NAME)) == "EPERM"
    assert [each["verdict"] for each in closed("events")] == ["orphaned"]


def test_a_change_of_mode_begins_an_epoch(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    closed("approve", path, MINUTE)
    closed("permit_writes")
    assert closed.load("file", path) == "ok"
    closed.settle()
    closed("set_mode", "enforce")
    assert closed.host.run(f"echo 0 > /sys/kernel/livepatch/{NAME}/enabled").returncode != 0
    assert closed("events")[-1]["verdict"] == "superseded"


@on_every_kernel
def test_the_guard_knows_which_bytes_entered(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    assert closed("entered", NAME) is None
    closed("approve", path, MINUTE)
    closed.load("file", path)
    expected = {"digest": hashlib.sha256(livepatch_bytes(NAME)).hexdigest(), "verdict": "allowed", "token": 0}
    if closed.release == closed.host.run("uname -r").stdout.strip() and "6.1." in closed.release:
        assert closed("entered", NAME) == expected
    assert closed("entered", NAME)["verdict"] == "allowed"
    closed.settle()
    closed("permit_writes")
    closed.take_out(NAME)
    assert closed("entered", NAME) is None


def test_a_livepatch_that_fails_to_be_installed_is_a_new_generation(closed: Lab) -> None:
    path = closed.livepatch("klp_fails")
    closed("approve", path, MINUTE)
    before = closed("counters")["generation"]
    assert closed.load("file", path) == "ENODEV"
    assert closed("counters")["generation"] > before
    assert "klp_fails" in [each["livepatch"] for each in closed("events") if "livepatch" in each]
    assert closed("entered", "klp_fails") is None


@on_every_kernel
@pytest.mark.parametrize(("generations", "epochs", "answer"), [(0, 0, "ok"), (1, 0, "ESTALE"), (0, 1, "ESTALE")])
def test_klpds_own_write_is_bound_to_what_it_was_judged_on(
    closed: Lab, generations: int, epochs: int, answer: str
) -> None:
    path = closed.livepatch(NAME)
    closed("approve", path, MINUTE)
    closed.load("file", path)
    closed.settle()
    assert closed("write_as_judged", NAME, "enabled", generations, epochs) == answer


def test_an_approval_for_this_generation_is_good(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    closed("approve", path, MINUTE, closed("counters")["generation"])
    assert closed.load("file", path) == "ok"


def test_an_approval_is_void_once_the_stack_has_changed(closed: Lab) -> None:
    path, other = closed.livepatch(NAME), closed.livepatch("klp_add")
    closed("approve", path, MINUTE, closed("counters")["generation"])
    closed("approve", other, MINUTE)
    assert closed.load("file", other) == "ok"
    closed.settle()
    closed("events")
    assert closed.load("file", path) == "EPERM"
    assert [each["verdict"] for each in closed("events")] == ["stale"]


def test_transitions_are_told_and_counted(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    closed("approve", path, MINUTE)
    closed("permit_writes")
    closed.load("file", path)
    closed.settle()
    closed.take_out(NAME)
    events = [each for each in closed("events") if "ended" in each]
    assert [(each["livepatch"], each["ended"]) for each in events] == [(NAME, False), (NAME, True)] * 2
    generations = [1, *(each["generation"] for each in events)]
    assert all(before < after for before, after in pairwise(generations))
    # It is taken off the list after its transition has ended.
    assert closed("counters")["generation"] > generations[-1]


def test_ordinary_modules_pass_without_an_event(closed: Lab) -> None:
    before = closed("counters")["plain"]
    closed.host.run("modprobe dummy && rmmod dummy && modprobe dummy", check=True)
    assert closed("counters")["plain"] == before + 2
    assert closed("events") == []


@on_every_kernel
@pytest.mark.parametrize("way", ["memfd", "buffer"])
def test_no_evasion_gets_through(closed: Lab, way: str) -> None:
    files = closed("evade", closed.livepatch(NAME))
    answers = closed("load", way, *files.values())
    assert len(answers) == len(EVASIONS) + len(BROKEN)
    # What is not even an ELF file is for the loader to decompress; what has no ELF header never comes to the guard.
    assert set(answers.values()) <= {"EPERM", "ENOSYS", "ENOEXEC"}
    assert {answers[f"{name}.ko"] for name in EVASIONS} == {"EPERM"}
    assert closed.host.run("ls /sys/kernel/livepatch").stdout == ""


def test_the_evasions_are_livepatches_to_a_kernel_without_guard(lab: Lab) -> None:
    # Its pre_patch callback fails with ENODEV, which klp_enable_patch calls for nothing but a livepatch.
    files = lab("evade", lab.livepatch("klp_fails"))
    answers = lab("load", "file", *(files[name] for name in EVASIONS))
    assert set(answers.values()) == {"ENODEV"}


@pytest.mark.parametrize("name", EVASIONS)
def test_klpd_takes_for_a_livepatch_what_the_guard_does(name: str) -> None:
    assert is_livepatch(EVASIONS[name](livepatch_bytes(NAME)))


def test_an_approved_oddity_is_loaded(closed: Lab) -> None:
    path = closed.file("odd", EVASIONS["second-modinfo-after"](livepatch_bytes(NAME)))
    closed("approve", path, MINUTE)
    assert closed.load("file", path) == "ok"
    assert closed("events")[0]["input"] == "unparsed"


def test_the_digest_is_sha256(closed: Lab) -> None:
    around_blocks = (64, 65, 118, 119, 120, 127, 128, 129, 183, 184, 1000)
    assert closed("digests", *around_blocks, 1 << 20, (3 << 20) + 7) == {}


def test_what_is_too_big_to_digest_is_refused(closed: Lab) -> None:
    path = closed.file("big", b"\x7fELF")
    closed.host.run(f"truncate --size {(64 << 20) + 1} {path}", check=True)
    assert closed.load("file", path) == "EPERM"
    assert [each["verdict"] for each in closed("events")] == ["too-big"]


def test_a_refusal_tells_where_the_file_lies_as_its_loader_sees_it(closed: Lab) -> None:
    path, digest = closed.livepatch(NAME), hashlib.sha256(livepatch_bytes(NAME)).hexdigest()
    deep = "/mnt/" + "/".join("ABCDEFGHIJKLMNOPQ")
    closed.host.run(
        f"mkdir -p /mnt/over /mnt/a/b {deep} && mount -t tmpfs none /mnt/over && mkdir '/mnt/over/c d' && "
        f"mount --bind '/mnt/over/c d' /mnt/a/b && cp {path} /mnt/a/b/lp.ko && cp {path} {deep}/lp.ko && "
        f"cp {path} /mnt/{'x' * 200}.ko && xz --keep --check=crc32 {path}",
        check=True,
    )
    for file in ("/mnt/a/b/lp.ko", "/mnt/over/c d/lp.ko", path, f"{deep}/lp.ko", f"/mnt/{'x' * 200}.ko"):
        assert closed.load("file", file) == "EPERM"
    closed.load("memfd", path)
    closed.load("compressed-file", f"{path}.xz")
    # Nothing of what has no path, or one that is too long for the record.
    told = closed("files")
    assert told == {"/mnt/a/b/lp.ko": digest, "/mnt/over/c d/lp.ko": digest, path: digest, f"{path}.xz": ""}
    closed("approve", path, MINUTE)
    assert closed.load("file", path) == "ok"
    assert closed("files") == {}, "nothing is told of what is let in"


def test_compressed_bytes_are_left_to_the_loader_to_decompress(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    closed.host.run(f"xz --keep --check=crc32 {path}", check=True)
    assert closed.load("compressed-file", f"{path}.xz") == "ENOSYS"
    assert [(each["verdict"], each["allowed"]) for each in closed("events")] == [("compressed", False)]
    assert closed.host.run(f"insmod {path}.xz").returncode != 0
    closed("approve", path, MINUTE)
    closed.host.run(f"insmod {path}.xz", check=True)


def test_observing_refuses_nothing_and_tells_what_it_would_have(lab: Lab) -> None:
    assert lab("close", "observe")["state"] == "observing"
    assert lab.load("file", lab.livepatch(NAME)) == "ok"
    event = lab("events")[0]
    assert (event["verdict"], event["allowed"]) == ("unapproved", True)


def test_switched_off_it_refuses_nothing_and_uses_no_approval_up(lab: Lab) -> None:
    path = lab.livepatch(NAME)
    assert lab("close", "off")["state"] == "open"
    lab("approve", path, MINUTE)
    assert lab.load("file", path) == "ok"
    assert lab("events")[0]["verdict"] == "off"
    assert lab("withdraw", path) is True


def test_its_mode_can_be_changed_at_any_time(closed: Lab) -> None:
    path = closed.livepatch(NAME)
    closed("set_mode", "observe")
    assert closed("status")["state"] == "observing"
    closed("set_mode", "enforce")
    assert closed.load("file", path) == "EPERM"
