# SPDX-License-Identifier: GPL-2.0-or-later
"""Manifests: from a file to what it declares of one livepatch (klpd-livepatch(5))."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.errors import PolicyError
from klpd.judge.rules import Manifest
from klpd.model import MOST_DECLARED, Declaration, DeclaredState, RuleKind, StatesSource
from klpd.policy.check import Table
from klpd.policy.convert import boolean, cve, hexadecimal, list_of, state_id, text, version
from klpd.policy.dropins import find_files
from klpd.policy.ownership import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.model import Rule
    from klpd.policy.source import Source

DIRECTORIES: Final = ("etc/klpd/livepatches.d", "run/klpd/livepatches.d", "usr/lib/klpd/livepatches.d")
"""Where the site's manifests are, with the precedence of policy files."""


def read_manifests(
    root: Path = Path("/"), *, owner: int | None = ROOT
) -> tuple[tuple[Manifest, ...], tuple[PolicyError, ...]]:
    """The site's manifests, and what is wrong with their directories and with those that do not check."""
    found = find_files(root, DIRECTORIES, owner=owner)
    manifests: list[Manifest] = []
    complaints = [*found.complaints]
    for path in found.files:
        try:
            manifests.append(read_manifest(path, owner=owner))
        except PolicyError as error:
            complaints += error.all
    return tuple(manifests), tuple(complaints)


def is_the_sites(path: Path) -> bool:
    """Whether a file is in one of the directories of the site's manifests."""
    return os.path.dirname(os.path.abspath(path)) in {f"/{each}" for each in DIRECTORIES}


def read_manifest(path: Path, *, owner: int | None = ROOT) -> Manifest:
    """The manifest in a file.

    `owner`: whose it has to be, as for klpd.policy.ownership.reach.

    Raises PolicyError, whose `others` are all further complaints.
    """
    from klpd.policy.source import read_source

    return _manifest(read_source(path, owner))


def parse_manifest(data: bytes, file: str) -> Manifest:
    """The manifest that these bytes are; `file` is its name as people are told it.  Raises as `read_manifest`."""
    from klpd.policy.source import decode, parse

    return _manifest(parse(decode(data, file), file))


def _manifest(source: Source) -> Manifest:
    complaints: list[PolicyError] = []
    top = Table(source, complaints, source.values, RuleKind.DECLARED)
    about = top.table("livepatch", required=True)
    sha256 = about.get("sha256", hexadecimal(fewest=64, most=64), None)
    build_id = about.get("build-id", hexadecimal(fewest=2, most=128), None)
    if not complaints and sha256 is None and build_id is None:
        about.complain('it takes "sha256" or "build-id" to tell which livepatch is meant')
    title = about.get("title", text, None)
    fixes = about.take("fixes", list_of(cve))
    stateless = about.take("stateless", boolean)
    about.close()
    states = tuple(_states(top.tables("state"), top))
    none = stateless if stateless is not None and stateless.value else None
    if none is not None and states:
        about.complain("stateless: states are declared below", "stateless")
    top.close()
    if complaints:
        raise PolicyError.of(sorted(complaints, key=lambda each: (each.line or 0, each.column or 0)))
    declaration = Declaration(
        states if states or none is not None else None,
        title,
        () if fixes is None else tuple(dict.fromkeys(fixes.value)),
        (source.file,),
        () if none is None else (none.rule,),
    )
    return Manifest(source.file, declaration, sha256, build_id)


def _states(tables: Iterator[Table], top: Table) -> Iterator[DeclaredState]:
    seen: dict[int, Rule] = {}
    for count, table in enumerate(tables):
        if count == MOST_DECLARED:
            top.complain(f"more than {MOST_DECLARED} states, which no livepatch has", "state")
            return
        number = table.require("id", state_id)
        its_version = table.require("version", version)
        sticky = table.get("sticky", boolean, False)
        restores = table.get("restores", boolean, None)
        table.close()
        if number is None or its_version is None:
            continue
        if number.value in seen:
            table.complain(
                f"state {number.value:#x} is given twice: the first is in line {seen[number.value].line}", "id"
            )
        else:
            seen[number.value] = number.rule
            yield DeclaredState(
                number.value, its_version.value, number.rule, StatesSource.MANIFEST, sticky=sticky, restores=restores
            )
