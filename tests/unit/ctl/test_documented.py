# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command and option is in the manual page, and bash and zsh complete them: no more and no less."""

from __future__ import annotations

import argparse
import os
import pty
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from klpd.ctl.cli import make_parser

PROJECT: Final = Path(__file__).resolve().parents[3]
PAGE: Final = (PROJECT / "docs" / "klpctl.1.md").read_text()
COMPLETE: Final = """\
compopt() { :; }
source completions/klpctl.bash
COMP_WORDS=(klpctl "$@")
COMP_CWORD=$#
_klpctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


def parsers(
    parser: argparse.ArgumentParser | None = None, words: tuple[str, ...] = ()
) -> dict[tuple[str, ...], argparse.ArgumentParser]:
    """The words of each command, none for klpctl itself -> its parser."""
    parser = parser or make_parser()
    found = {words: parser}
    for name, child in commands_of(parser).items():
        found |= parsers(child, (*words, name))
    return found


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: child
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, child in action.choices.items()
    }


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def completed(*words: str) -> set[str]:
    """What bash offers for the last of the words."""
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", *words], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


LEAVES: Final = [words for words, parser in parsers().items() if not commands_of(parser)]
GROUPS: Final = [words for words, parser in parsers().items() if commands_of(parser)]


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_each_command_is_in_the_manual_page_with_its_options(words: tuple[str, ...]) -> None:
    section = PAGE.split("# COMMANDS")[1].split("\n# ")[0]
    entries = [each for each in section.split("\n\n") if f"**{' '.join(words)}**" in each.split("\n:")[0]]
    assert len(entries) == 1
    own = options_of(parsers()[words]) - options_of(parsers()[()]) - {"-h", "--help"}
    assert {each for each in own if f"**{each.replace('--', chr(92) + '--')}**" not in entries[0]} == set()


def test_the_options_of_all_commands_are_in_the_manual_page() -> None:
    section = PAGE.split("# OPTIONS")[1].split("\n# ")[0]
    known = {each for each in options_of(parsers()[()]) if f"**{each.replace('--', chr(92) + '--')}**" in section}
    assert known == options_of(parsers()[()]) - {"-h"}


@pytest.mark.parametrize("words", [(), *LEAVES], ids=" ".join)
def test_bash_completes_the_options_of_each_command(words: tuple[str, ...]) -> None:
    assert completed(*words, "-") == options_of(parsers()[words])


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_bash_completes_commands(words: tuple[str, ...]) -> None:
    assert completed(*words, "") == set(commands_of(parsers()[words]))


def test_options_before_the_command_do_not_confuse_bash() -> None:
    assert completed("--json", "-H", "revert", "plan", "re") == {"remove", "revert"}


def completed_by_zsh(folder: Path, lines: list[str]) -> dict[str, set[str]]:
    """Each line -> what zsh offers for its last word, at a terminal, with a livepatch in force and a job."""
    shutil.copy(Path(__file__).with_name("completed.zsh"), folder / ".zshrc")
    program = folder / "klpctl"
    program.write_text('#!/bin/sh\ncase $1 in list) echo klp_one ;; jobs) printf "job\\n7\\n" ;; esac\n')
    program.chmod(0o755)
    ours, zsh = pty.openpty()
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "TERM": "dumb",
        "ZDOTDIR": str(folder),
        "COMPLETIONS": str(PROJECT / "completions"),
        "COMPLETED": str(folder / "completed"),
        "TYPED": "\n".join(lines),
    }
    with subprocess.Popen(
        ["zsh", "-d", "-i"], stdin=zsh, stdout=zsh, stderr=zsh, env=environment, start_new_session=True
    ):
        os.close(zsh)
        with suppress(OSError):  # EIO: the last of the terminal's users is gone
            while os.read(ours, 4096):
                pass
        os.close(ours)
    blocks = (folder / "completed").read_text().replace("\n\t", "\t").splitlines()
    return {line: set(offered) for line, *offered in (each.split("\t") for each in blocks)}


def test_zsh_completes_commands_the_options_of_each_and_names(tmp_path: Path) -> None:
    known = parsers()
    expected = {" ".join(("klpctl", *words, "")): set(commands_of(known[words])) for words in GROUPS}
    expected |= {" ".join(("klpctl", *words, "-")): options_of(known[words]) for words in known}
    expected |= {
        "klpctl --json -H revert plan re": {"remove", "revert"},
        "klpctl revert --to ": {"original", "klp_one"},
        "klpctl disable ": {"klp_one"},
        "klpctl wait ": {"7"},
    }
    assert completed_by_zsh(tmp_path, list(expected)) == expected
