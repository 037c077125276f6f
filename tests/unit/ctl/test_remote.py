# SPDX-License-Identifier: GPL-2.0-or-later
"""klpctl --host, with an ssh that runs commands on this machine, as its shell would there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from klpd.errors import ExitStatus

PROJECT: Final = Path(__file__).resolve().parents[3]
SSH: Final = """\
#!/bin/bash
echo "$*" >> "$SEEN"
for word; do
    shift
    case $word in
    exit) exit 0 ;;
    --) break ;;
    esac
done
[ "$1" = nowhere ] && echo "ssh: Could not resolve hostname nowhere" >&2 && exit 255
shift
echo "welcome to this machine"
exec bash -c "$1"
"""
KLPCTL: Final = """\
#!/bin/bash
echo "klpctl $*"
for file in *; do
    [ -f "$file" ] && echo "$file: $(cat "$file")"
done
[ -t 0 ] && echo "at a terminal"
echo "NO_COLOR=$NO_COLOR" >&2
pwd > "$FOLDER"
exit 3
"""


class There:
    """The other machine, and the ways to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen = folder / "seen"
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.install("ssh", SSH)
        self.install("klpctl", KLPCTL)

    def install(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "SEEN": str(self.seen),
            "FOLDER": str(self.folder / "ran in"),
            "PYTHONPATH": str(PROJECT),
            "NO_COLOR": "1",
        }

    def run(self, *words: str, host: str = "there", stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "klpd.ctl", "--host", host, *words]
        return subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


@pytest.fixture
def there(tmp_path: Path) -> There:
    return There(tmp_path)


def test_the_klpctl_there_is_run_and_its_exit_status_passed_on(there: There) -> None:
    done = there.run("disable", "klp it's", "--json", "--no-ask-password")
    assert done.returncode == 3
    assert done.stdout.splitlines()[1] == "klpctl --json --no-ask-password disable -- klp it's"
    assert done.stderr == "NO_COLOR=1\n"
    assert " -T -- there " in there.seen.read_text()


def test_files_are_sent_there_and_go_away_with_the_command(there: There) -> None:
    for name in ("a b.ko", "other/a b.ko", "c.ko", "other/a b.livepatch.toml"):
        path = there.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"bytes of {name}")
    done = there.run("apply", "a b.ko", "other/a b.ko", "c.ko", "-", stdin="bytes typed")
    assert done.returncode == 3
    assert done.stdout.splitlines()[-6:] == [
        "klpctl apply -- 1-a b.ko 2-a b.ko c.ko standard-input",
        "1-a b.ko: bytes of a b.ko",
        "2-a b.ko: bytes of other/a b.ko",
        "2-a b.livepatch.toml: bytes of other/a b.livepatch.toml",
        "c.ko: bytes of c.ko",
        "standard-input: bytes typed",
    ]
    folder = (there.folder / "ran in").read_text().strip()
    assert folder.startswith("/tmp/klpctl.")
    assert not Path(folder).exists()


def test_parameters_stay_with_their_files_whatever_those_are_called(there: There) -> None:
    for name in ("a.ko", "b=1"):
        (there.folder / name).write_text("a module")
    done = there.run("apply", str(there.folder / "a.ko"), "x=y z", f"{there.folder}/b=1", "n=2")
    assert "klpctl apply -- a.ko x=y z ./b=1 n=2\n" in done.stdout


def test_a_manifest_is_not_made_where_it_would_go_away_at_once(there: There) -> None:
    (there.folder / "a.ko").write_text("bytes")
    done = there.run("manifest", "new", "a.ko", "-o", "a.toml")
    assert (done.returncode, done.stdout) == (ExitStatus.USAGE, "")
    assert "use > FILE instead" in done.stderr
    assert there.run("manifest", "check", "a.toml").returncode == ExitStatus.USAGE, "there is no such file"
    assert "klpctl manifest new -- a.ko" in there.run("manifest", "new", "a.ko").stdout


def test_one_connection_serves_them_all(there: There) -> None:
    (there.folder / "a.ko").write_text("bytes")
    there.run("check", "a.ko")
    shared = {word for word in there.seen.read_text().split() if word.startswith("ControlPath=")}
    assert len(shared) == 1
    assert not Path(shared.pop().partition("=")[2]).parent.exists()


def test_a_terminal_here_is_one_there(there: There) -> None:
    (there.folder / "a.ko").write_text("bytes")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "klpd.ctl", "--host", "there", "apply", "a.ko"]
    done = subprocess.run(
        command, env=there.environment, cwd=there.folder, stdin=theirs, stdout=theirs, check=False, timeout=30
    )
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert done.returncode == 3
    assert "at a terminal" in shown
    assert there.seen.read_text().count(" -t -- there ") == 1


def test_a_host_that_cannot_be_reached_is_named(there: There) -> None:
    (there.folder / "a.ko").write_text("bytes")
    for words in (["status"], ["check", "a.ko"]):
        done = there.run(*words, host="nowhere")
        assert done.returncode == ExitStatus.NO_DAEMON
        assert done.stderr.splitlines() == [
            "ssh: Could not resolve hostname nowhere",
            "klpctl: nowhere cannot be reached over ssh, or the connection broke",
        ]


def test_a_host_without_klpctl_is_named(there: There) -> None:
    (there.programs / "klpctl").unlink()
    done = there.run("status")
    assert done.returncode == ExitStatus.NO_DAEMON
    assert done.stderr.endswith("klpctl: there has no klpctl\n")


def test_without_ssh_there_is_a_clear_line(there: There) -> None:
    (there.programs / "ssh").unlink()
    command = [sys.executable, "-m", "klpd.ctl", "-H", "there", "status"]
    environment = {**there.environment, "PATH": str(there.programs)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == ExitStatus.FAILED
    assert done.stderr == "klpctl: --host needs ssh, which is not installed here\n"


@pytest.mark.parametrize(
    ("file", "complaint"),
    [("gone.ko", "cannot open gone.ko: No such file or directory"), ("programs", "programs: not a regular file")],
)
def test_a_file_that_cannot_be_sent_is_told_before_the_host_is_asked(there: There, file: str, complaint: str) -> None:
    done = there.run("check", file)
    assert done.returncode == ExitStatus.USAGE
    assert done.stderr == f"klpctl: {complaint}\n"
    assert not there.seen.exists()


def test_a_copy_that_fails_leaves_nothing_there(there: There) -> None:
    (there.folder / "a.ko").write_text("bytes")
    there.install("cat", "#!/bin/sh\nexit 1\n")
    done = there.run("check", "a.ko")
    assert done.returncode == ExitStatus.FAILED
    assert done.stderr == "klpctl: a.ko could not be copied to there\n"
    (made,) = [word for word in there.seen.read_text().split() if word.startswith("/tmp/klpctl.") and "/a.ko" in word]
    assert not Path(made).parent.exists()
