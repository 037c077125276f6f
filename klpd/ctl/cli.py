# SPDX-License-Identifier: GPL-2.0-or-later
"""klpctl's command line as argparse has it.  What it means is said in `klpd.ctl.understand`, once it has been read."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from klpd import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from klpd.ctl.requests import CommandLine

    Arguments = Callable[[argparse.ArgumentParser], None]
    """Adds what a command takes to its parser."""
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
    commands: Parsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog="klpctl", parser_class=_LateParser
    )

    def add(words: str, about: str, arguments: Arguments = _nothing, to: Parsers = commands) -> None:
        def make(command: argparse.ArgumentParser) -> None:
            command.set_defaults(command=words)
            arguments(command)

        described = about[0].upper() + about[1:] + "."
        to.add_parser(words.split()[-1], help=about, description=described, parents=[common], make=make)

    def group(name: str, about: str, *members: tuple[str, str, Arguments]) -> None:
        def make(group: argparse.ArgumentParser) -> None:
            to = group.add_subparsers(title="commands", metavar="COMMAND", required=True, prog=f"klpctl {name}")
            for word, about, arguments in members:
                add(f"{name} {word}", about, arguments, to)

        commands.add_parser(name, help=about, description=about.capitalize() + ".", make=make)

    add("status", "show klpd's policy and defences, and the livepatches installed")
    add("list", "list the livepatches in force, one a line", _list_options)
    add("inspect", "show what is in a livepatch module", _file)
    add("diff", "show what an update changes: compare two livepatch modules", _two_files)
    add("check", "judge the loading of a livepatch module", _file)
    group(
        "plan",
        "show the steps of a change, and take none",
        ("apply", "plan to load livepatches", _files),
        ("disable", "plan to disable a livepatch", _name),
        ("remove", "plan to remove the module of a livepatch that is no longer in force", _name),
        ("revert", "plan the way back", _to),
        ("force", "tell whether the running transition may be forced", _moving),
    )
    add("apply", "load livepatches, in this order", _files)
    add("approve", "let any program load a livepatch for a time, if the policy lets it in", _approve_options)
    add("disable", "disable a livepatch and remove its module", _name)
    add("remove", "remove the module of a livepatch that is no longer in force", _name)
    add("revert", "go back to the livepatch before, or to the unpatched kernel", _revert_options)
    add("force", "force the running transition, whatever its last tasks are in the midst of", _force_options)
    add("blockers", "show the tasks that the running transition waits for", _blockers_options)
    add("jobs", "list the jobs of klpd")
    add("wait", "follow a job to its end", _job)
    add("log", "show what klpd decided and did", _log_options)
    group(
        "policy",
        "check and print the policy files",
        ("check", "check policy files", _policy_files),
        ("cat", "print the policy files in their order", _nothing),
    )
    group(
        "manifest",
        "write and check what is declared of livepatches",
        ("new", "write a manifest to begin with for a livepatch module", _new_manifest),
        ("check", "check a manifest, and whether it fits a livepatch module", _manifest),
    )
    add("reload", "have klpd read its policy files anew")
    group(
        "guard",
        "see, open and close the guard in the kernel",
        ("status", "tell how the guard is", _nothing),
        (
            "open",
            "let every livepatch in until the guard is closed or the machine boots; for emergencies",
            _nothing,
        ),
        ("close", "close the guard again", _nothing),
    )
    return parser


class _LateParser(argparse.ArgumentParser):
    """A parser that becomes one when something is asked of it: of all commands, one is given.

    `make` adds its arguments then; the settings are ArgumentParser's.
    """

    def __init__(self, *, make: Arguments, **settings: Any) -> None:  # noqa: ANN401
        self._pending = (make, settings)

    def __getattr__(self, name: str) -> object:
        # Called for what is not there: before the parser is made, that is everything that it consists of.
        pending = vars(self).pop("_pending", None)
        if pending is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        make, settings = pending
        super().__init__(**settings)
        make(self)
        return getattr(self, name)


def _nothing(command: argparse.ArgumentParser) -> None:
    """The arguments of a command that takes none of its own."""


def _list_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--names", action="store_true", help="nothing but their names; does not ask klpd")


def _two_files(command: argparse.ArgumentParser) -> None:
    command.add_argument("old", metavar="OLD", help="the livepatch module that is followed")
    command.add_argument("new", metavar="NEW", help="the one that follows it")


def _file(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help='a livepatch module (.ko); "-" is standard input')


def _approve_options(command: argparse.ArgumentParser) -> None:
    from klpd.report import APPROVED_FOR

    command.add_argument(
        "--for",
        dest="seconds",
        metavar="TIME",
        type=_span,
        default=APPROVED_FOR,
        help="for how long: 90s, 10min, 2h (default: 10min); 0 takes back what was approved",
    )
    _file(command)


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "words",
        metavar="FILE",
        nargs="+",
        help='a livepatch module (.ko), and maybe parameters of it, NAME=VALUE; "-" is standard input',
    )


def _livepatch(text: str) -> str:
    """The name of a livepatch; a module's file stands for the livepatch that comes of it, as with rmmod(8)."""
    from klpd.files import MODULE_SUFFIXES

    suffix = next((each for each in MODULE_SUFFIXES if text.endswith(each)), None)
    return text if suffix is None else text.removesuffix(suffix).rpartition("/")[2]


def _name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", type=_livepatch, help="the name of an installed livepatch")


def _moving(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "name",
        metavar="NAME",
        type=_livepatch,
        nargs="?",
        default="",
        help="the livepatch that it is of (default: whichever runs)",
    )


def _to(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--to",
        metavar="NAME",
        type=_livepatch,
        default="",
        help='where to: a livepatch that was the newest once, or "original", the unpatched kernel '
        "(default: what was in force before the last change)",
    )


def _revert_options(command: argparse.ArgumentParser) -> None:
    _to(command)
    _yes(command)


def _force_options(command: argparse.ArgumentParser) -> None:
    _moving(command)
    _yes(command)


def _yes(command: argparse.ArgumentParser) -> None:
    command.add_argument("-y", "--yes", action="store_true", help="do not ask; nor is asked without a terminal")


def _blockers_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("-f", "--follow", action="store_true", help="go on until the transition ends")


def _job(command: argparse.ArgumentParser) -> None:
    command.add_argument("job", metavar="ID", type=_id, help="the job's number")


def _policy_files(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", metavar="FILE", nargs="*", help="a policy file (default: those in force)")
    command.add_argument("--unsafe", action="store_true", help="also take what others than root may write")


def _new_manifest(command: argparse.ArgumentParser) -> None:
    _file(command)
    command.add_argument(
        "-o", "--output", metavar="OUTPUT", default="", help="a file to make (default: standard output)"
    )


def _manifest(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "manifest", metavar="MANIFEST", nargs="?", default="", help="a manifest (default: those of the site)"
    )
    command.add_argument("file", metavar="FILE", nargs="?", default="", help="the module (.ko) that it is for")


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


def _span(text: str) -> int:
    from klpd.ctl.since import span_seconds
    from klpd.report import LONGEST_APPROVED

    try:
        seconds = span_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds > LONGEST_APPROVED:
        raise argparse.ArgumentTypeError(f"{text} is too long; {LONGEST_APPROVED // 86400}d is the longest")
    return seconds


def _since(text: str) -> float:
    from datetime import datetime

    from klpd.ctl.since import since

    try:
        return since(text, datetime.now().astimezone())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
