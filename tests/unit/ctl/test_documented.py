# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command and option is in the manual page, and bash completes them: no more and no less."""

from __future__ import annotations

import argparse
import subprocess
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
