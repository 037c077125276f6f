# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds of every livepatch that the reader gives, whatever module it read."""

from __future__ import annotations

import json
from typing import Final

from klpd import module
from klpd.ctl.first_manifest import first_manifest
from klpd.ctl.page import Page
from klpd.ctl.show_diff import show_difference
from klpd.ctl.show_livepatch import show_livepatch
from klpd.judge.compare import compare
from klpd.judge.rules import Mode, Permission, Policy, Ruling
from klpd.judge.verdict import judge
from klpd.model import Disable, Installed, Livepatch, Load, Rule, RuleKind, Stack
from klpd.module import Kind
from klpd.module.modinfo import MODULE_NAME
from klpd.plain import from_plain, to_plain
from klpd.policy.manifest import parse_manifest

_ALLOW: Final = Ruling(Permission.ALLOW, Rule(RuleKind.BUILTIN, "fuzzing"))
_POLICY: Final = Policy(mode=Mode.ENFORCE, default=_ALLOW, unknown_states=_ALLOW)
_PAGES: Final = (Page(), Page(width=80, colour=False))


def check(livepatch: Livepatch, data: bytes) -> None:
    """Raise AssertionError, or what klpd raises, unless all of it holds of the livepatch read from `data`."""
    if module.recognise(data) in (Kind.ORDINARY, Kind.NO_MODULE):
        raise AssertionError(f"a livepatch to the reader, and {module.recognise(data)} to what the guard goes by")
    if not MODULE_NAME.fullmatch(livepatch.name):
        raise AssertionError(f"a name that no module has: {livepatch.name!r}")
    if module.read_livepatch(data, file="some.ko") != livepatch:
        raise AssertionError("read twice, it is not the same")
    _check_kept(livepatch)
    _check_judged(livepatch)
    _check_shown(livepatch)
    _check_manifest(livepatch)


def _check_kept(livepatch: Livepatch) -> None:
    """What klpd keeps in /var/lib/klpd is what it kept."""
    if from_plain(Livepatch, json.loads(json.dumps(to_plain(livepatch)).encode())) != livepatch:
        raise AssertionError("kept as JSON, it comes back as another")


def _check_judged(livepatch: Livepatch) -> None:
    """Alone, above itself, and on its way out, it gets a verdict."""
    installed = Stack((Installed.expected(livepatch),))
    load, disable = Load(livepatch), Disable(livepatch.name)
    for stack, action in ((Stack(), load), (installed, load), (installed, disable)):
        json.dumps(to_plain(judge(stack, action, _POLICY)))


def _check_shown(livepatch: Livepatch) -> None:
    """What klpctl shows of it has no control characters, nor characters that UTF-8 has no bytes for."""
    difference = compare(livepatch, livepatch)
    if difference.objects or any(each.before != each.after for each in difference.states or ()):
        raise AssertionError(f"it differs from itself: {difference}")
    trust = _POLICY.trust(livepatch)
    for page in _PAGES:
        for shown in (show_livepatch(livepatch, page, {}, trust, None), show_difference(difference, page, {})):
            for line in map(page.render, shown):
                line.encode()
                if not line.isprintable():
                    raise AssertionError(f"a terminal would obey {line!r}")


def _check_manifest(livepatch: Livepatch) -> None:
    """The manifest that an author begins with checks, and is about it."""
    manifest = parse_manifest(first_manifest(livepatch, "some.ko").encode(), "some.livepatch.toml")
    if not manifest.is_for(livepatch):
        raise AssertionError("its first manifest is about another")
