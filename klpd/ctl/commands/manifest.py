# SPDX-License-Identifier: GPL-2.0-or-later
"""Manifests: `klpctl manifest new` and `klpctl manifest check`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from klpd.errors import ExitStatus, PolicyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.context import Context
    from klpd.judge.rules import Manifest
    from klpd.model import Finding


def new(context: Context, file: str, output: str) -> int:
    """Write a manifest to begin with for a module, to a new file or ("") to standard output."""
    from klpd.ctl.first_manifest import first_manifest

    text = first_manifest(context.machine.module(file), file)
    if context.json:
        context.console.json({"manifest": text})
    elif output:
        _write(output, text)
    else:
        context.console.out.write(text)
    return ExitStatus.OK


def _write(path: str, text: str) -> None:
    try:
        # Whoever has filled one in does not want it written over.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(fd, "w", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already; take it away first, or name another file") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def check(context: Context, manifest: str, module: str) -> int:
    """Check a manifest, and that it fits a module (""): none given; or ("") those of the site."""
    from klpd.ctl.commands.policy import show_checked
    from klpd.judge.declared import contradicting
    from klpd.policy.read import Checked

    files, lost = ((manifest,), ()) if manifest else context.machine.manifest_files()
    found: list[Manifest] = []
    complaints = {each.file: [each] for each in lost}
    complaints |= {file: [*_complaints(context, file, module, found)] for file in files}
    for finding in dict.fromkeys(contradicting(found)):
        complaints[finding.rule.place].append(_complaint(finding))
    results = {file: Checked(tuple(each)) for file, each in complaints.items()}
    return show_checked(context, results, none="no manifests: nothing is declared by this site")


def _complaints(context: Context, file: str, module: str, found: list[Manifest]) -> Iterator[PolicyError]:
    """What is wrong with one manifest, which is added to those found if it can be read."""
    from klpd.judge.declared import contradictions
    from klpd.policy.beside import with_declared

    try:
        manifest = context.machine.manifest(file)
        if manifest is None:
            return
        found.append(manifest)
        if module:
            livepatch = with_declared(context.machine.module(module), (manifest,), None)
            yield from (_complaint(each) for each in contradictions(livepatch))
    except PolicyError as error:
        yield from error.all


def _complaint(finding: Finding) -> PolicyError:
    return PolicyError(finding.message, file=finding.rule.place, line=finding.rule.line)
