# SPDX-License-Identifier: GPL-2.0-or-later
"""Drift: livepatches that are installed, and that neither an approval nor the policy accounts for; and those that are
not what was approved, since their code made something else of what their file says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.judge import site
from klpd.judge.declared import with_manifests
from klpd.judge.verdict import decide
from klpd.model import Decision, Drift, Finding, Rule, RuleKind, StatesSource, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from klpd.judge.rules import Policy
    from klpd.model import Installed, Livepatch, Stack, State

AS_JUDGED: Final = Rule(RuleKind.BUILTIN, "what is in force is what was judged")


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


def difference_findings(livepatch: Installed, file: Livepatch | None) -> Iterator[Finding]:
    """In what a livepatch in force differs from the file that it came from, as far as both are known.

    Its code, or a module parameter, has changed it before it came into force: a verdict was on something else.
    """
    if file is None:
        return
    in_memory = livepatch.states_source is StatesSource.MEMORY
    if in_memory and livepatch.states is not None and file.states not in (None, livepatch.states):
        yield _difference(
            livepatch,
            f"{livepatch.name} is in force with {_told(livepatch.states)}; its file has {_told(file.states or ())}",
        )
    if None not in (livepatch.replace, file.replace) and livepatch.replace is not file.replace:
        word = "replaces" if livepatch.replace else "does not replace"
        other = "does" if file.replace else "does not"
        yield _difference(livepatch, f"{livepatch.name} {word} the livepatches before it; as its file says, it {other}")


def _difference(livepatch: Installed, message: str) -> Finding:
    return Finding(
        Decision.DENY,
        "unlike-its-file",
        AS_JUDGED,
        message,
        "build it so that neither code nor a parameter changes its klp_patch, or revert it",
        livepatch=livepatch.name,
    )


def _told(states: tuple[State, ...]) -> str:
    return ", ".join(f"state {each.id:#x} version {each.version}" for each in states) or "no states"


def find_drift(
    stack: Stack,
    approved: Callable[[Installed], bool],
    policy: Policy,
    file_of: Callable[[str], Livepatch | None] = lambda _digest: None,
) -> tuple[Drift, ...]:
    """The livepatches of `stack` that nobody `approved` and that the policy does not allow either, and those that
    differ from their files, which `file_of` gives by their digests.

    So what was loaded before klpd came, in the initramfs say, is no drift as long as a rule allows it.
    """
    return tuple(_drift(stack, approved, policy, file_of))


def _drift(
    stack: Stack,
    approved: Callable[[Installed], bool],
    policy: Policy,
    file_of: Callable[[str], Livepatch | None],
) -> Iterator[Drift]:
    for each in stack.livepatches:
        differences = tuple(difference_findings(each, None if each.digest is None else file_of(each.digest)))
        if approved(each) and not differences:
            continue
        findings = (*differences, *(() if approved(each) else judge_installed(each, policy).findings))
        if decide(findings) is not Decision.ALLOW:
            yield Drift(each.name, Verdict("keep", each.name, decide(findings), (), findings))
