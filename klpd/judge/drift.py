# SPDX-License-Identifier: GPL-2.0-or-later
"""Drift: livepatches that are installed, and that neither an approval nor the policy accounts for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.judge import site
from klpd.judge.declared import with_manifests
from klpd.judge.verdict import decide
from klpd.model import Decision, Drift, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.judge.rules import Policy
    from klpd.model import Installed, Stack


def judge_installed(livepatch: Installed, policy: Policy) -> Verdict:
    """Whether the policy would have let in a livepatch that is there already.

    What the kernel would say does not matter any more, and its states are changed: the rules on livepatches, on
    signatures and on versions are asked, not those on changes.
    """
    livepatch = with_manifests(livepatch, policy)
    findings = (
        *site.livepatch_findings(livepatch, policy),
        *site.signature_findings(livepatch, policy),
        *site.version_findings(livepatch, policy),
    )
    return Verdict("keep", livepatch.name, decide(findings), (), findings)


def find_drift(stack: Stack, approved: Callable[[Installed], bool], policy: Policy) -> tuple[Drift, ...]:
    """The livepatches of `stack` that nobody `approved` and that the policy does not allow either.

    So what was loaded before klpd came, in the initramfs say, is no drift as long as a rule allows it.
    """
    judged = ((each, judge_installed(each, policy)) for each in stack.livepatches if not approved(each))
    return tuple(Drift(each.name, verdict) for each, verdict in judged if verdict.decision is not Decision.ALLOW)
