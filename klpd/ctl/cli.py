# SPDX-License-Identifier: GPL-2.0-or-later
"""klpctl's command line: argparse's namespace becomes a request at once."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from klpd import __version__
from klpd.ctl import requests
from klpd.ctl.requests import Apply, Disable, Perform, Plan, Revert

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Parsers = argparse._SubParsersAction[argparse.ArgumentParser]
    Make = Callable[[argparse.Namespace], requests.Request]

_ABOUT: Final = "Livepatches on this machine: what is installed, what may come, and the way there and back."
_EPILOG: Final = "klpctl(1) tells the exit statuses, and what the JSON output holds."
_LAST: Final = 50
"""Journal entries shown where nothing says how many."""


def parse(arguments: Sequence[str] | None) -> requests.CommandLine:
    """The command line, understood.  Exits as argparse does, with 2 and the usage, where it cannot be."""
    namespace = _parser().parse_args(arguments)
    make: Make = namespace.make
    given = vars(namespace)
    return requests.CommandLine(make(namespace), json=given.get("json", False), debug=given.get("debug", False))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help="print JSON")
    common.add_argument("--debug", action="store_true", help="print the tracebacks of errors, too")
    parser = argparse.ArgumentParser("klpctl", description=_ABOUT, epilog=_EPILOG, parents=[common])
    parser.add_argument("--version", action="version", version=f"klpctl {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, about: str, make: Make, to: Parsers = commands) -> argparse.ArgumentParser:
        command = to.add_parser(name, help=about, description=about.capitalize() + ".", parents=[common])
        command.set_defaults(make=make)
        return command

    def group(name: str, about: str) -> Parsers:
        group = commands.add_parser(name, help=about, description=about.capitalize() + ".")
        return group.add_subparsers(title="commands", metavar="COMMAND", required=True)

    add("status", "show klpd's policy and defences, and the livepatches installed", lambda _: requests.Status())
    _file(add("inspect", "show what is in a livepatch module", lambda given: requests.Inspect(given.file)))
    _file(add("check", "judge the loading of a livepatch module", lambda given: requests.Check(given.file)))

    plan = group("plan", "show the steps of a change, and take none")
    _file(add("apply", "plan to load a livepatch", lambda given: Plan(Apply(given.file)), plan))
    _name(add("disable", "plan to disable a livepatch", lambda given: Plan(Disable(given.name)), plan))
    _to(add("revert", "plan the way back", lambda given: Plan(Revert(given.to)), plan))

    _file(add("apply", "load a livepatch", lambda given: Perform(Apply(given.file), confirmed=True)))
    _name(
        add(
            "disable",
            "disable a livepatch and remove its module",
            lambda given: Perform(Disable(given.name), confirmed=True),
        )
    )
    revert = add(
        "revert",
        "go back to the livepatch before, or to the unpatched kernel",
        lambda given: Perform(Revert(given.to), confirmed=given.yes),
    )
    _to(revert)
    revert.add_argument("-y", "--yes", action="store_true", help="do not ask; nor is asked without a terminal")

    _log_options(add("log", "show what klpd decided and did", _log))

    policy = group("policy", "check and print the policy files")
    policy_check = add("check", "check policy files", lambda given: requests.PolicyCheck(tuple(given.files)), to=policy)
    policy_check.add_argument("files", metavar="FILE", nargs="*", help="a policy file (default: those in force)")
    add("cat", "print the policy files in their order", lambda _: requests.PolicyCat(), to=policy)
    add("reload", "have klpd read its policy files anew", lambda _: requests.Reload())

    guard = group("guard", "see, open and close the guard in the kernel")
    add("status", "tell how the guard is", lambda _: requests.GuardStatus(), to=guard)
    add(
        "open",
        "let every livepatch in until the guard is closed or the machine boots; for emergencies",
        lambda _: requests.OpenGuard(),
        to=guard,
    )
    add("close", "close the guard again", lambda _: requests.CloseGuard(), to=guard)
    return parser


def _file(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="a livepatch module (.ko)")


def _name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="the name of an installed livepatch")


def _to(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--to",
        metavar="NAME",
        default="",
        help='where to: a livepatch that was the newest once, or "original", the unpatched kernel '
        "(default: what was in force before the last change)",
    )


def _log_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-n", "--lines", metavar="N", type=_count, help=f"the last N entries (default: {_LAST}, or all since TIME)"
    )
    command.add_argument("-f", "--follow", action="store_true", help="wait for more entries, and show them")
    command.add_argument(
        "--since",
        metavar="TIME",
        type=_since,
        help="entries since a time (2026-03-01, '2026-03-01 14:00', today, yesterday) or a span before now (90s, 2h)",
    )


def _log(given: argparse.Namespace) -> requests.Log:
    count = _LAST if given.lines is None and given.since is None else given.lines
    return requests.Log(count, given.since, given.follow)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of entries")
    return int(text)


def _since(text: str) -> float:
    from datetime import datetime

    from klpd.ctl.since import since

    try:
        return since(text, datetime.now().astimezone())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
