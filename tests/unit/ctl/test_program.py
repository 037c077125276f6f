# SPDX-License-Identifier: GPL-2.0-or-later
"""klpctl as a program: processes of its own, on a bus of the test's own with a klpd that only plays one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from klpd.ctl.commands.change import INTERRUPTED
from klpd.errors import ExitStatus
from klpd.plain import to_plain
from tests.unit.ctl.examples import STATUS
from tests.unit.private_bus import message_bus, on_bus, service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Process = subprocess.Popen[str]

TIMEOUT = 30
SYS_READ = {"x86_64": 0}.get(os.uname().machine, 63)  # the generic number, as arm64 has it


@pytest.fixture(scope="module")
def bus() -> Iterator[str]:
    """The address of a message bus."""
    with message_bus() as address:
        yield address


@pytest.fixture
def klpd(bus: str) -> Iterator[None]:
    """A klpd on the bus."""
    with service(bus, "tests.unit.ctl.fake_klpd"):
        yield


def start(bus: str, *arguments: str) -> Process:
    return subprocess.Popen(
        [sys.executable, "-m", "klpd.ctl", *arguments],
        env=on_bus(bus),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(bus: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    process = start(bus, *arguments)
    out, err = process.communicate(stdin, timeout=TIMEOUT)
    assert "Traceback" not in err
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def imported_by(*arguments: str) -> set[str]:
    """The modules that klpctl has imported when it ends."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write('\\n' + ' '.join(sys.modules)))\n"
        "from klpd.ctl.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    return set(done.stderr.splitlines()[-1].split())


def test_help_imports_next_to_nothing() -> None:
    imported = imported_by("--help")
    assert {each for each in imported if each.startswith("klpd")} == {
        "klpd",
        "klpd.ctl",
        "klpd.ctl.__main__",
        "klpd.ctl.cli",
        "klpd.errors",
    }
    assert not imported & {"gi", "json", "dataclasses", "datetime", "subprocess", "systemd", "pydbus", "elftools"}


@pytest.mark.usefixtures("klpd")
def test_status_imports_no_more_than_the_bus(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
    imported = imported_by("status")
    assert "gi" in imported
    assert not imported & {"pydbus", "elftools", "systemd", "json", "subprocess", "klpd.judge.rules"}
    assert not imported & {f"klpd.ctl.{each}" for each in ("progress", "journal", "job_events", "remote")}


def test_completing_a_name_does_not_wait_for_the_bus() -> None:
    assert not imported_by("list", "--names") & {"gi", "klpd.model"}


@pytest.mark.usefixtures("klpd")
def test_the_status_arrives_whole(bus: str) -> None:
    done = run(bus, "status", "--json")
    assert done.returncode == ExitStatus.OK
    assert json.loads(done.stdout) == to_plain(STATUS)


@pytest.mark.usefixtures("klpd")
def test_check_hands_over_an_open_file_and_its_name(bus: str, tmp_path: Path) -> None:
    file = tmp_path / "lp\udcff.ko"
    file.write_text("bytes of the module")
    done = run(bus, "check", str(file))
    assert done.returncode == ExitStatus.VETOED
    assert done.stdout.endswith(f"{tmp_path}/lp\\udcff.ko=bytes of the module: vetoed\n")


@pytest.mark.usefixtures("klpd")
def test_the_manifest_beside_the_file_goes_along(bus: str, tmp_path: Path) -> None:
    file = tmp_path / "lp.ko.xz"
    file.write_text("the module")
    (tmp_path / "lp.livepatch.toml").write_text("the manifest")
    told = " ".join(run(bus, "check", str(file)).stdout.split())
    assert told.endswith(f"lp.ko.xz=the module, {tmp_path}/lp.livepatch.toml=the manifest: vetoed")


@pytest.mark.usefixtures("klpd")
def test_what_is_approved_is_an_open_file_for_so_many_seconds(bus: str, tmp_path: Path) -> None:
    file = tmp_path / "lp.ko"
    file.write_text("klp_fix")
    done = run(bus, "approve", "--json", "--for", "2h", str(file))
    assert done.returncode == ExitStatus.OK
    told = json.loads(done.stdout)
    assert (told["livepatch"], told["file"], told["until"]) == ("klp_fix", str(file), 7200)


@pytest.mark.usefixtures("klpd")
def test_several_files_are_handed_over_in_their_order(bus: str, tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(f"bytes of {name}")
    done = run(bus, "plan", "apply", str(tmp_path / "b"), str(tmp_path / "a"))
    assert done.stdout.startswith(f"apply {tmp_path}/b=bytes of b, {tmp_path}/a=bytes of a\n")


@pytest.mark.usefixtures("klpd")
def test_parameters_go_along_with_their_files(bus: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    done = run(bus, "plan", "apply", str(tmp_path / "a"), str(tmp_path / "b"), "x=1", "y=a b")
    assert done.stdout.splitlines()[0].endswith("with ['', 'x=1 y=a b']")


@pytest.mark.usefixtures("klpd")
def test_standard_input_is_a_file_too(bus: str) -> None:
    done = run(bus, "check", "-", stdin="bytes of the module")
    assert done.stdout.endswith("standard input=bytes of the module: vetoed\n")
    empty = run(bus, "check", "-")
    assert empty.returncode == ExitStatus.USAGE
    assert "standard input is empty" in empty.stderr


@pytest.mark.usefixtures("klpd")
def test_blockers_are_followed_until_the_transition_has_ended(bus: str) -> None:
    followed = run(bus, "blockers", "--follow")
    assert followed.returncode == ExitStatus.OK
    assert followed.stdout.count("klp_test_held (pid 812, tid 813)") == 1
    assert followed.stdout.endswith("\nthe transition of klp_v3 has ended\n")
    after = run(bus, "blockers")
    assert (after.returncode, after.stdout) == (ExitStatus.OK, "no transition runs\n")


@pytest.mark.usefixtures("klpd")
def test_somebody_elses_job_can_be_waited_for_and_left_with_ctrl_c(bus: str) -> None:
    owner = start(bus, "disable", "slow")
    assert owner.stdout is not None
    owner.stdout.readline()
    waiting = start(bus, "wait", "1")
    interrupt_once_running(waiting)
    _out, err = waiting.communicate(timeout=TIMEOUT)
    assert waiting.returncode == INTERRUPTED
    assert err == "klpctl: the job goes on without klpctl; to follow it: klpctl wait 1\n"
    again = start(bus, "wait", "1")
    assert again.stdout is not None
    again.stdout.readline()
    owner.send_signal(signal.SIGINT)
    owner.communicate(timeout=TIMEOUT)
    assert again.communicate(timeout=TIMEOUT)[1] == "klpctl: apply klp_v3: canceled\n"
    assert again.returncode == owner.returncode == ExitStatus.FAILED


@pytest.mark.usefixtures("klpd")
def test_an_error_of_klpd_is_one_line_and_its_exit_status(bus: str, tmp_path: Path) -> None:
    file = tmp_path / "lp.ko"
    file.touch()
    done = run(bus, "check", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (ExitStatus.USAGE, "", f"klpctl: {file}: it is empty\n")


@pytest.mark.usefixtures("klpd")
def test_a_policy_that_does_not_check_fails_the_reload_with_its_place(bus: str) -> None:
    done = run(bus, "reload")
    assert done.returncode == ExitStatus.USAGE
    assert done.stderr == "klpctl: /etc/klpd/policy.d/50-site.toml:3:1: no such key\n"


@pytest.mark.parametrize("what", ["quick", "over"])
@pytest.mark.usefixtures("klpd")
def test_a_job_is_followed_to_its_end(bus: str, what: str) -> None:
    done = run(bus, "disable", what)
    assert done.returncode == ExitStatus.OK
    assert done.stdout.endswith("removing the module klp_v2: done\napply klp_v3: done\n")


@pytest.mark.usefixtures("klpd")
def test_changes_while_the_job_is_looked_at_are_told_in_their_order_and_once(bus: str) -> None:
    assert run(bus, "disable", "busy").stdout.splitlines() == [
        "loading klp_v3 ...",
        "loading klp_v3: done",
        "removing the module klp_v2 ...",
        "removing the module klp_v2: done",
        "apply klp_v3: done",
    ]


@pytest.mark.usefixtures("klpd")
def test_a_refused_job_ends_with_the_refusals_status(bus: str) -> None:
    done = run(bus, "disable", "forbidden")
    assert done.returncode == ExitStatus.NOT_AUTHORIZED
    assert done.stderr == "klpctl: apply klp_v3: polkit says no\n"


def interrupt_once_running(process: Process) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "loading klp_v3 ...\n"
    process.send_signal(signal.SIGINT)


@pytest.mark.usefixtures("klpd")
def test_ctrl_c_cancels_the_job(bus: str) -> None:
    process = start(bus, "disable", "slow")
    interrupt_once_running(process)
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == ExitStatus.FAILED
    assert out == "asking klpd to cancel the job; Ctrl-C again leaves it alone\n"
    assert err == "klpctl: apply klp_v3: canceled\n"


@pytest.mark.usefixtures("klpd")
def test_ctrl_c_before_the_job_is_known_cancels_it_all_the_same(bus: str) -> None:
    done = run(bus, "disable", "early")
    assert done.returncode == ExitStatus.FAILED
    assert done.stderr == "klpctl: apply klp_v3: canceled\n"


@pytest.mark.usefixtures("klpd")
def test_a_second_ctrl_c_leaves_a_job_alone_that_may_not_be_canceled(bus: str) -> None:
    process = start(bus, "disable", "stubborn")
    interrupt_once_running(process)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("asking klpd to cancel")
    assert process.stdout.readline().startswith("the job goes on: polkit does not allow")
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == INTERRUPTED
    assert "the job goes on without klpctl" in err


@pytest.mark.usefixtures("klpd")
def test_a_klpd_that_dies_meanwhile_ends_the_waiting(bus: str) -> None:
    done = run(bus, "disable", "crash")
    assert done.returncode == ExitStatus.NO_DAEMON
    assert "klpd has ended meanwhile" in done.stderr


@pytest.mark.parametrize("command", [["disable", "klp_v1"], ["revert"], ["reload"], ["plan", "disable", "klp_v1"]])
def test_without_klpd_there_is_a_clear_line_and_a_status_of_its_own(bus: str, command: list[str]) -> None:
    done = run(bus, *command)
    assert done.returncode == ExitStatus.NO_DAEMON
    assert done.stderr == "klpctl: klpd is not running; start it with: systemctl start klpd\n"


def test_without_a_bus_there_is_one_too() -> None:
    done = run("unix:path=/nonexistent/bus", "reload")
    assert done.returncode == ExitStatus.NO_DAEMON
    assert "the system bus cannot be reached" in done.stderr


def test_debug_shows_where_an_error_came_from() -> None:
    process = start("unix:path=/nonexistent/bus", "--debug", "reload")
    _out, err = process.communicate(timeout=TIMEOUT)
    assert "Traceback" in err
    assert process.returncode == ExitStatus.NO_DAEMON


@pytest.mark.usefixtures("klpd")
def test_a_reader_that_goes_away_is_no_error(bus: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "klpd.ctl", "status"],
        env=on_bus(bus),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_no_file_is_a_usage_error(bus: str, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    done = run(bus, "inspect", str(path))
    assert done.returncode == ExitStatus.USAGE
    assert done.stderr.startswith("klpctl: ")
    assert str(path) in done.stderr


@pytest.mark.usefixtures("klpd")
@pytest.mark.parametrize("command", [("apply", "-"), ("plan", "apply", "-"), ("check", "-"), ("inspect", "-")])
def test_ctrl_c_ends_whoever_waits_for_standard_input(bus: str, command: tuple[str, ...]) -> None:
    process = start(bus, *command)
    wait_until(lambda: reads_standard_input(process))
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == -signal.SIGINT
    assert process.communicate() == ("", "")


def reads_standard_input(process: Process) -> bool:
    call = Path(f"/proc/{process.pid}/syscall").read_text().split()
    return call[:2] == [str(SYS_READ), "0x0"]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("module", ["klpd.ctl.cli", "klpd.errors", "argparse"])
def test_ctrl_c_while_klpctl_is_being_imported_leaves_no_traceback(module: str) -> None:
    program = (
        "import os, runpy, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_more):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.argv = ['klpctl', 'jobs']\n"
        "runpy.run_module('klpd.ctl', run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
