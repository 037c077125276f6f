# SPDX-License-Identifier: GPL-2.0-or-later
"""From argparse's namespace to a request, and from a request to the words that ask for it."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final, assert_never

from klpd.ctl import requests
from klpd.ctl.requests import Apply, Bare, CommandLine, Disable, Force, Perform, Plan, Remove, Revert

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from klpd.ctl.requests import Change, Request

_LAST: Final = 50
"""Journal entries shown where nothing says how many."""


def command_line(given: Namespace) -> CommandLine:
    """What was given, as values."""
    # Options that were not given are absent: each may stand before or after the command.
    common = {each: value for each, value in vars(given).items() if each in ("json", "debug", "host", "ask_password")}
    return CommandLine(_request(given), **common)


def _request(given: Namespace) -> Request:
    match given.command.split():
        case ["list"]:
            return requests.List(given.names)
        case ["inspect"]:
            return requests.Inspect(given.file)
        case ["diff"]:
            return requests.Diff(given.old, given.new)
        case ["check"]:
            return requests.Check(given.file)
        case ["plan", kind]:
            return Plan(_change(kind, given))
        case ["apply" | "disable" | "remove" as kind]:
            return Perform(_change(kind, given), confirmed=True)
        case ["revert" | "force" as kind]:
            return Perform(_change(kind, given), confirmed=given.yes)
        case ["approve"]:
            return requests.Approve(given.file, given.seconds)
        case ["blockers"]:
            return requests.Blockers(given.follow)
        case ["wait"]:
            return requests.Wait(given.job)
        case ["log"]:
            count = _LAST if given.lines is None and given.since is None else given.lines
            return requests.Log(count, given.since, given.follow)
        case ["policy", "check"]:
            return requests.PolicyCheck(tuple(given.files), given.unsafe)
        case ["manifest", "new"]:
            return requests.ManifestNew(given.file, given.output)
        case ["manifest", "check"]:
            return requests.ManifestCheck(given.manifest, given.file)
    return Bare(given.command)


def _change(kind: str, given: Namespace) -> Change:
    match kind:
        case "apply":
            return Apply(*_files_and_parameters(given.words))
        case "disable":
            return Disable(given.name)
        case "remove":
            return Remove(given.name)
        case "revert":
            return Revert(given.to)
        case "force":
            return Force(given.name)
    raise ValueError(f"{kind} is no change")


def _files_and_parameters(words: list[str]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Files, each with the words behind it that are parameters."""
    files: list[tuple[str, list[str]]] = []
    for word in words:
        if files and is_parameter(word):
            files[-1][1].append(word)
        else:
            files.append((word, []))
    parameters = tuple(tuple(given) for _file, given in files)
    return tuple(file for file, _given in files), parameters if any(parameters) else ()


def is_parameter(word: str) -> bool:
    """Whether a word is a module's parameter, as insmod(8) takes them, and no file: those may begin with "./"."""
    name, equals, _value = word.partition("=")
    return bool(equals and name) and name.isascii() and name.replace("-", "_").isidentifier()


def files_of(request: Request) -> tuple[str, ...]:
    """The files that a request names, in their order."""
    match request:
        case requests.Inspect(file) | requests.Check(file) | requests.ManifestNew(file) | requests.Approve(file):
            return (file,)
        case requests.Diff(old, new):
            return old, new
        case requests.ManifestCheck(manifest, module):
            return tuple(each for each in (manifest, module) if each)
        case Plan(Apply(files, _)) | Perform(Apply(files, _)) | requests.PolicyCheck(files):
            return files
    return ()


def words_of(request: Request, file: Callable[[str], str] = str) -> list[str]:
    """The words that ask for `request`, with `file` of the files that it names."""
    match request:
        case Bare():
            return request.value.split()
        case requests.List(names):
            return ["list", *_option("--names", given=names)]
        case requests.Inspect(path):
            return ["inspect", "--", file(path)]
        case requests.Diff(old, new):
            return ["diff", "--", file(old), file(new)]
        case requests.Check(path):
            return ["check", "--", file(path)]
        case requests.Approve(path, seconds):
            return ["approve", f"--for={seconds}", "--", file(path)]
        case Plan(change):
            return ["plan", *_change_words(change, file)]
        case Perform(change, confirmed):
            asks = isinstance(change, Revert | Force)
            command, *rest = _change_words(change, file)
            return [command, *_option("--yes", given=confirmed and asks), *rest]
        case requests.Blockers(follow):
            return ["blockers", *_option("--follow", given=follow)]
        case requests.Wait(job):
            return ["wait", str(job)]
        case requests.Log(count, since, follow):
            lines = [] if count is None else ["--lines", str(count)]
            return ["log", *lines, *_since(since), *_option("--follow", given=follow)]
        case requests.PolicyCheck(files, unsafe):
            return ["policy", "check", *_option("--unsafe", given=unsafe), "--", *map(file, files)]
        case requests.ManifestNew(path, output):
            return ["manifest", "new", *([f"--output={output}"] if output else []), "--", file(path)]
        case requests.ManifestCheck():
            return ["manifest", "check", "--", *map(file, files_of(request))]
        case _:
            assert_never(request)


def _change_words(change: Change, file: Callable[[str], str]) -> list[str]:
    match change:
        case Apply(files, parameters):
            given = parameters or ((),) * len(files)
            words = [[file(each), *own] for each, own in zip(files, given, strict=True)]
            return ["apply", "--", *chain.from_iterable(words)]
        case Disable(name):
            return ["disable", "--", name]
        case Remove(name):
            return ["remove", "--", name]
        case Revert(to):
            return ["revert", f"--to={to}"]
        case Force(name):
            return ["force", *(["--", name] if name else [])]
        case _:
            assert_never(change)


def _option(option: str, *, given: bool) -> list[str]:
    return [option] if given else []


def _since(since: float | None) -> list[str]:
    if since is None:
        return []
    from datetime import UTC, datetime

    return ["--since", datetime.fromtimestamp(since, UTC).isoformat()]
