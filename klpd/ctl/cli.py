# SPDX-License-Identifier: GPL-2.0-or-later
"""klpctl's command line as argparse has it.  What it means is said in `klpd.ctl.understand`, once it has been read."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from klpd import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from klpd.ctl.requests import CommandLine

    Parsers = argparse._SubParsersAction[argparse.ArgumentParser]

_ABOUT: Final = "Livepatches on this machine: what is installed, what may come, and the way there and back."
_EPILOG: Final = "klpctl(1) tells the exit statuses, and what the JSON output holds."


def parse(arguments: Sequence[str] | None) -> CommandLine:
    """The command line, understood.  Exits as argparse does, with 2 and the usage, where it cannot be."""
    given = make_parser().parse_args(arguments)

    from klpd.ctl.understand import command_line

    return command_line(given)


def make_parser() -> argparse.ArgumentParser:
    """The grammar.  Each command leaves its words in `command`, for what they mean."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help="print JSON")
    common.add_argument("-H", "--host", metavar="[USER@]HOST", type=_host, help="do it on another machine, over ssh")
    common.add_argument(
        "--no-ask-password", dest="ask_password", action="store_false", help="do not have anybody asked for a password"
    )
    common.add_argument("--debug", action="store_true", help="print the tracebacks of errors, too")
    parser = argparse.ArgumentParser("klpctl", description=_ABOUT, epilog=_EPILOG, parents=[common])
    parser.add_argument("--version", action="version", version=f"klpctl {__version__}")
    # With `prog` given, argparse does not make a formatter of help texts, and import half the library, to find it out.
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="klpctl")

    def add(words: str, about: str, to: Parsers = commands) -> argparse.ArgumentParser:
        command = to.add_parser(
            words.split()[-1], help=about, description=about[0].upper() + about[1:] + ".", parents=[common]
        )
        command.set_defaults(command=words)
        return command

    def group(name: str, about: str) -> Parsers:
        group = commands.add_parser(name, help=about, description=about.capitalize() + ".")
        return group.add_subparsers(title="commands", metavar="COMMAND", required=True, prog=f"klpctl {name}")

    add("status", "show klpd's policy and defences, and the livepatches installed")
    add("list", "list the livepatches in force, one a line").add_argument(
        "--names", action="store_true", help="nothing but their names; does not ask klpd"
    )
    _file(add("inspect", "show what is in a livepatch module"))
    diff = add("diff", "show what an update changes: compare two livepatch modules")
    diff.add_argument("old", metavar="OLD", help="the livepatch module that is followed")
    diff.add_argument("new", metavar="NEW", help="the one that follows it")
    _file(add("check", "judge the loading of a livepatch module"))

    plan = group("plan", "show the steps of a change, and take none")
    _files(add("plan apply", "plan to load livepatches", plan))
    _name(add("plan disable", "plan to disable a livepatch", plan))
    _name(add("plan remove", "plan to remove the module of a livepatch that is no longer in force", plan))
    _to(add("plan revert", "plan the way back", plan))
    _moving(add("plan force", "tell whether the running transition may be forced", plan))

    _files(add("apply", "load livepatches, in this order"))
    _name(add("disable", "disable a livepatch and remove its module"))
    _name(add("remove", "remove the module of a livepatch that is no longer in force"))
    revert = add("revert", "go back to the livepatch before, or to the unpatched kernel")
    _to(revert)
    _yes(revert)
    force = add("force", "force the running transition, whatever its last tasks are in the midst of")
    _moving(force)
    _yes(force)

    add("blockers", "show the tasks that the running transition waits for").add_argument(
        "-f", "--follow", action="store_true", help="go on until the transition ends"
    )
    add("jobs", "list the jobs of klpd")
    add("wait", "follow a job to its end").add_argument("job", metavar="ID", type=_id, help="the job's number")
    _log_options(add("log", "show what klpd decided and did"))

    policy = group("policy", "check and print the policy files")
    add("policy check", "check policy files", policy).add_argument(
        "files", metavar="FILE", nargs="*", help="a policy file (default: those in force)"
    )
    add("policy cat", "print the policy files in their order", policy)

    manifest = group("manifest", "write and check what is declared of livepatches")
    manifest_new = add("manifest new", "write a manifest to begin with for a livepatch module", manifest)
    _file(manifest_new)
    manifest_new.add_argument(
        "-o", "--output", metavar="OUTPUT", default="", help="a file to make (default: standard output)"
    )
    manifest_check = add("manifest check", "check a manifest, and whether it fits a livepatch module", manifest)
    manifest_check.add_argument(
        "manifest", metavar="MANIFEST", nargs="?", default="", help="a manifest (default: those of the site)"
    )
    manifest_check.add_argument("file", metavar="FILE", nargs="?", default="", help="the module (.ko) that it is for")
    add("reload", "have klpd read its policy files anew")

    guard = group("guard", "see, open and close the guard in the kernel")
    add("guard status", "tell how the guard is", guard)
    add(
        "guard open",
        "let every livepatch in until the guard is closed or the machine boots; for emergencies",
        guard,
    )
    add("guard close", "close the guard again", guard)
    return parser


def _file(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help='a livepatch module (.ko); "-" is standard input')


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", metavar="FILE", nargs="+", help='a livepatch module (.ko); "-" is standard input')


def _name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="the name of an installed livepatch")


def _moving(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "name", metavar="NAME", nargs="?", default="", help="the livepatch that it is of (default: whichever runs)"
    )


def _to(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--to",
        metavar="NAME",
        default="",
        help='where to: a livepatch that was the newest once, or "original", the unpatched kernel '
        "(default: what was in force before the last change)",
    )


def _yes(command: argparse.ArgumentParser) -> None:
    command.add_argument("-y", "--yes", action="store_true", help="do not ask; nor is asked without a terminal")


def _log_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-n", "--lines", metavar="N", type=_count, help="the last N entries (default: 50, or all since TIME)"
    )
    command.add_argument("-f", "--follow", action="store_true", help="wait for more entries, and show them")
    command.add_argument(
        "--since",
        metavar="TIME",
        type=_since,
        help="entries since a time (2026-03-01, '2026-03-01 14:00', today, yesterday) or a span before now (90s, 2h)",
    )


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of entries")
    return int(text)


def _id(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no job; klpctl jobs lists them")
    return int(text)


def _host(text: str) -> str:
    # ssh would take it for an option, and may run programs that options name.
    if not text or text.startswith("-"):
        raise argparse.ArgumentTypeError(f"{text!r} is no host")
    return text


def _since(text: str) -> float:
    from datetime import datetime

    from klpd.ctl.since import since

    try:
        return since(text, datetime.now().astimezone())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
