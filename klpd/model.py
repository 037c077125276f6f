# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpd talks about, as plain values: livepatches, the installed stack, actions, state changes, verdicts.

Nothing here does I/O or decides anything.  `None` in a field means "cannot be known", never "no": most livepatches in
use carry their states and their `replace` flag where only running code could tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VMLINUX = "vmlinux"
"""The name that a klp_object without a name (the kernel itself) goes by, in sysfs as well as here."""

LARGEST_ID: Final = (1 << 64) - 1
"""struct klp_state keeps an id in an unsigned long (include/linux/livepatch.h)."""
LARGEST_VERSION: Final = (1 << 32) - 1
"""And a version in an unsigned int."""
MOST_DECLARED: Final = 256
"""Of the states that one manifest, or the modinfo of one module, may declare."""


@dataclass(frozen=True, slots=True, order=True)
class State:
    """One `struct klp_state`: a system state that a livepatch changes (include/linux/livepatch.h)."""

    id: int
    version: int


class RuleKind(StrEnum):
    """Who a rule comes from.  DECLARED: from what is declared of a livepatch, by its author or by the site."""

    KERNEL = "kernel"
    BUILTIN = "built-in"
    POLICY = "policy"
    DECLARED = "declared"


@dataclass(frozen=True, slots=True)
class Rule:
    """Where a rule stands: `place` is a kernel function, or a file with `line` (1 based)."""

    kind: RuleKind
    place: str
    line: int | None = None

    def __str__(self) -> str:
        if self.kind in (RuleKind.POLICY, RuleKind.DECLARED):
            return self.place if self.line is None else f"{self.place}:{self.line}"
        return f"{self.kind}: {self.place}"


class StatesSource(StrEnum):
    """Where the states of a livepatch are known from."""

    MEMORY = "memory"
    FILE = "file"
    MODINFO = "modinfo"
    MANIFEST = "manifest"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class DeclaredState:
    """A state that a livepatch is declared to carry: the kernel knows nothing of that.

    `restores` tells whether it can restore an older version of the state when its transition is reversed; None where
    nothing is said.  `rule` is where all this is declared.
    """

    id: int
    version: int
    rule: Rule
    source: StatesSource
    sticky: bool = False
    restores: bool | None = None


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is declared of a livepatch, in its modinfo and in manifests.

    `states` is None where nothing is said of states, and empty where it is declared to have none.  Several statements
    on a state may stand side by side.  `files` names the manifests; `fixes` what it fixes, as CVE ids; `stateless` the
    places where it is declared to have no states.  `unreadable`: why there may be more than could be read.
    """

    states: tuple[DeclaredState, ...] | None = None
    title: str | None = None
    fixes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    stateless: tuple[Rule, ...] = ()
    unreadable: str | None = None

    def __add__(self, other: Declaration) -> Declaration:
        """Both; what is in both counts once."""
        states = (each.states for each in (self, other) if each.states is not None)
        merged = tuple(dict.fromkeys(state for some in states for state in some))
        return Declaration(
            None if self.states is None and other.states is None else merged,
            self.title or other.title,
            tuple(dict.fromkeys((*self.fixes, *other.fixes))),
            tuple(dict.fromkeys((*self.files, *other.files))),
            tuple(dict.fromkeys((*self.stateless, *other.stateless))),
            self.unreadable or other.unreadable,
        )

    def of(self, state_id: int) -> tuple[DeclaredState, ...]:
        """What is said of one state."""
        return tuple(each for each in self.states or () if each.id == state_id)

    def restores(self, state_id: int) -> bool | None:
        """Whether an older version of the state can be restored: no, if anybody says so; None where nobody says."""
        said = {each.restores for each in self.of(state_id)} - {None}
        return None if not said else said == {True}


UNDECLARED: Final = Declaration()


def carried_states(states: tuple[State, ...] | None, declared: Declaration) -> tuple[State, ...] | None:
    """The real states and those declared beside them: a real one wins.  None where neither is known."""
    if declared.states is None:
        return states
    merged = {each.id: State(each.id, each.version) for each in reversed(declared.states)}
    real = states or ()
    return (*real, *(each for id_, each in sorted(merged.items()) if all(id_ != state.id for state in real)))


class Callback(StrEnum):
    """The members of `struct klp_callbacks`."""

    PRE_PATCH = "pre_patch"
    POST_PATCH = "post_patch"
    PRE_UNPATCH = "pre_unpatch"
    POST_UNPATCH = "post_unpatch"


@dataclass(frozen=True, slots=True)
class Function:
    """One `struct klp_func`: the function replaced, and which of several of that name (0: it is the only one)."""

    name: str
    sympos: int = 0


@dataclass(frozen=True, slots=True)
class Object:
    """One `struct klp_object`: vmlinux or a module, with the functions replaced in it.

    `misnamed`: it has the name VMLINUX where the kernel's own object has none, so that the kernel waits for a module of
    that name (klp_is_module in kernel/livepatch/core.h), which never comes.
    """

    name: str
    functions: tuple[Function, ...]
    callbacks: tuple[Callback, ...] = ()
    misnamed: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Needed:
    """A symbol that the kernel has to find for a livepatch's relocations: `.klp.sym.OBJECT.NAME,SYMPOS`
    (klp_resolve_symbols in kernel/livepatch/core.c).

    `by` is the object whose relocations need it: they are done when that is there.
    """

    by: str
    object: str
    name: str
    sympos: int = 0


@dataclass(frozen=True, slots=True)
class SignatureProof:
    """What it takes to verify a signature when its file is not at hand.  Bytes are in hex.

    `issuer`: the name of the issuer of the signer's certificate, in DER; None where the certificate is told by its key
    id.  `digest`: that of the signed bytes, by the signature's algorithm; None where that is none to rely on.
    `value`: what the signer made of it.  `flaw`: why it is not to be trusted, whoever made it.
    """

    issuer: str | None
    digest: str | None
    value: str
    flaw: str | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """The signature appended to a module, as the module claims it: nothing here has been verified.

    `key_id` is the serial number of the signer's certificate, or its subject key id.
    """

    signer: str | None
    key_id: str | None
    hash_algorithm: str | None
    proof: SignatureProof | None = None


class Standing(StrEnum):
    """What became of verifying a signature.  UNVERIFIED: there was nothing to verify it with."""

    UNSIGNED = "unsigned"
    UNVERIFIED = "unverified"
    UNTRUSTED = "untrusted"
    TRUSTED = "trusted"


@dataclass(frozen=True, slots=True)
class Trust:
    """How far a livepatch's signature can be trusted.

    `signer`: the common name in the trusted certificate that it was verified with.  `detail`: why it is as it is.
    """

    standing: Standing
    signer: str | None = None
    detail: str | None = None

    @property
    def trusted(self) -> bool:
        return self.standing is Standing.TRUSTED


class Demand(StrEnum):
    """What has the kernel refuse modules that its own keyrings do not verify.

    NOTHING: it loads them, and taints itself.  UNCHECKED: it was built without CONFIG_MODULE_SIG.
    """

    SIG_ENFORCE = "sig_enforce"
    LOCKDOWN = "lockdown"
    NOTHING = "nothing"
    UNCHECKED = "unchecked"


class Format(StrEnum):
    """What made a livepatch module, as far as its layout tells: a klp_patch in its data (as in the kernel's samples),
    kpatch-build, or the kernel's own klp-build.  Modules of an UNKNOWN one tell nothing but their modinfo."""

    STATIC = "static"
    KPATCH_BUILD = "kpatch-build"
    KLP_BUILD = "klp-build"
    UNKNOWN = "unknown"

    @property
    def stateless(self) -> bool:
        """Whether there is no way to give a livepatch of this format a klp_state."""
        return self in (Format.KPATCH_BUILD, Format.KLP_BUILD)


def release_of(vermagic: str) -> str:
    """The release of the kernel that a module with this vermagic was built for: its first word."""
    return vermagic.split(" ", 1)[0]


@dataclass(frozen=True, slots=True)
class Livepatch:
    """A livepatch module as its file describes it.  `digest` is the SHA-256 of the file's bytes, in hex.

    `states` are those that the kernel will know.  `layout`: how it is known where everything is in the kernel's
    structures that it was read by; None where it was read by those of the tool that made it, or by none.  `needs`:
    the symbols of others that its relocations need; None where whoever read it did not look.  `parameters` (NAME=VALUE)
    are those that it is to be loaded with, and of which the rest is true; None: it is true whatever a loader gives it.
    """

    name: str
    digest: str
    size: int
    replace: bool | None
    states: tuple[State, ...] | None
    objects: tuple[Object, ...] | None
    format: Format = Format.UNKNOWN
    layout: str | None = None
    vermagic: str = ""
    depends: tuple[str, ...] = ()
    build_id: str | None = None
    srcversion: str | None = None
    version: str | None = None
    description: str | None = None
    license: str | None = None
    signature: Signature | None = None
    declared: Declaration = UNDECLARED
    parameters: tuple[str, ...] | None = None
    needs: tuple[Needed, ...] | None = None

    @property
    def carried(self) -> tuple[State, ...] | None:
        """Its states, real and declared; None where they cannot be known."""
        return carried_states(self.states, self.declared)

    @property
    def called(self) -> str:
        """Its name, and the parameters that it is to be loaded with."""
        return " ".join((self.name, *(self.parameters or ())))

    @property
    def kernel_release(self) -> str:
        """The release of the kernel that the module was built for: vermagic's first word."""
        return release_of(self.vermagic)

    @property
    def restores(self) -> bool | None:
        """Whether it has a post_unpatch callback, which can restore what was before it."""
        if self.objects is None:
            return None
        return any(Callback.POST_UNPATCH in each.callbacks for each in self.objects)


@dataclass(frozen=True, slots=True)
class InstalledObject:
    """An object of an installed livepatch; `patched` is false while its module is not loaded, None: cannot be known."""

    name: str
    functions: tuple[Function, ...]
    patched: bool | None = None

    @property
    def misnamed(self) -> bool:
        """Whether it waits for a module that never comes: the kernel itself is always there to be patched."""
        return self.name == VMLINUX and self.patched is False


@dataclass(frozen=True, slots=True)
class Installed:
    """A livepatch in the running kernel: a member of its list klp_patches.

    `restores`: it has a post_unpatch callback, as its file tells.  `states` are those that the kernel knows, and
    `states_source` tells how klpd does.  `kernel_verified`: the kernel verified its signature, with a key of its own,
    when it was loaded; None where the kernel does not tell.
    """

    name: str
    enabled: bool = True
    transition: bool = False
    replace: bool | None = None
    forced: bool | None = None
    states: tuple[State, ...] | None = None
    states_source: StatesSource = StatesSource.NOWHERE
    objects: tuple[InstalledObject, ...] = ()
    build_id: str | None = None
    digest: str | None = None
    restores: bool | None = None
    declared: Declaration = UNDECLARED
    signature: Signature | None = None
    kernel_verified: bool | None = None

    @property
    def carried(self) -> tuple[State, ...] | None:
        """Its states, real and declared; None where they cannot be known."""
        return carried_states(self.states, self.declared)

    @property
    def carried_source(self) -> StatesSource:
        """Where `carried` is known from; of real states and declared ones, where the real ones are."""
        if self.states or not self.declared.states:
            return self.states_source
        return self.declared.states[0].source

    @classmethod
    def expected(cls, livepatch: Livepatch) -> Installed:
        """What `livepatch` will be in the kernel once its transition is complete."""
        return cls(
            name=livepatch.name,
            replace=livepatch.replace,
            forced=False,
            states=livepatch.states,
            states_source=StatesSource.NOWHERE if livepatch.states is None else StatesSource.FILE,
            objects=tuple(InstalledObject(each.name, each.functions) for each in livepatch.objects or ()),
            build_id=livepatch.build_id,
            digest=livepatch.digest,
            restores=livepatch.restores,
            declared=livepatch.declared,
            signature=livepatch.signature,
        )


@dataclass(frozen=True, slots=True)
class Leftover:
    """A livepatch module that is loaded but no longer in the stack: replaced or disabled.

    `removable` is false for a module that the kernel keeps for good because a transition was forced.
    """

    name: str
    removable: bool
    build_id: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Loading a livepatch module: finit_module or init_module, whose init calls klp_enable_patch."""

    livepatch: Livepatch


@dataclass(frozen=True, slots=True)
class Disable:
    """Writing 0 to a livepatch's `enabled` outside a transition."""

    name: str


@dataclass(frozen=True, slots=True)
class Reverse:
    """Writing the opposite value to `enabled` of the livepatch in transition (klp_reverse_transition)."""

    name: str


@dataclass(frozen=True, slots=True)
class Force:
    """Writing 1 to `force` of the livepatch in transition (klp_force_transition): its stragglers count as done.

    What is taken out by such a transition keeps its module for good, since a task may still run its code.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    """delete_module of a livepatch module that is no longer in the stack."""

    name: str


Action = Load | Disable | Reverse | Force | Remove


@dataclass(frozen=True, slots=True, order=True)
class Taken:
    """A function of an object (VMLINUX or a module) whose calls somebody leads elsewhere (FTRACE_OPS_FL_IPMODIFY in
    kernel/trace/ftrace.c), as only one may; livepatches count as one.

    `by`: who that is, as far as the kernel tells.
    """

    object: str
    function: str
    by: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What of the running kernel, beside its livepatches, decides on whether another one can come.

    `modules`: those that are loaded.  `taken`: the functions that somebody has to himself, where those of livepatches
    may be among them.  `ftrace`: whether functions can be traced (kernel.ftrace_enabled).  `demand`: what has the
    kernel refuse modules that it cannot verify.  None: whoever looked could not see it.
    """

    modules: tuple[str, ...] | None = None
    taken: tuple[Taken, ...] | None = None
    ftrace: bool | None = None
    demand: Demand | None = None

    @property
    def loaded(self) -> frozenset[str] | None:
        """The objects that are there to be patched now."""
        return None if self.modules is None else frozenset(self.modules) | {VMLINUX}


@dataclass(frozen=True, slots=True, order=True)
class SymbolCount:
    """How many symbols of a name an object has (VMLINUX or a module)."""

    object: str
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The circumstances, and the symbols that a livepatch needs: one that is missing here cannot be told of."""

    circumstances: Circumstances = Circumstances()
    symbols: tuple[SymbolCount, ...] = ()

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """How many symbols there are, by object and name."""
        return {(each.object, each.name): each.count for each in self.symbols}


def target(action: Action) -> str:
    """The name of the livepatch that `action` is about."""
    return action.livepatch.name if isinstance(action, Load) else action.name


def same_name(one: str, other: str) -> bool:
    """Whether two names of modules are the same to modprobe(8): what builds modules puts "_" in place of "-"."""
    return one.replace("-", "_") == other.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Stack:
    """The livepatches of a running kernel, in the order of klp_patches (the oldest first).

    `readable` is false where the reader had no right to look into kernel memory: states that are unknown then might
    be known to the daemon.  `steady` is false while a livepatch is being initialised, which may fail, or is just
    leaving: it is none of these, but the stack may be another in a moment.  `generation` and `epoch` are the guard's,
    from before the stack was read; 0 where there is none.  `surroundings` is there where a livepatch is to be loaded,
    and is no part of what the stack is.
    """

    livepatches: tuple[Installed, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    kernel_release: str = ""
    readable: bool = True
    generation: int = 0
    epoch: int = 0
    steady: bool = True
    surroundings: Surroundings | None = field(default=None, compare=False)

    def find(self, name: str) -> Installed | None:
        return next((each for each in self.livepatches if each.name == name), None)

    def named(self, name: str) -> str | None:
        """The name, as the kernel has it, of what somebody means by `name`; None where nothing is called so.

        To whom "-" and "_" are the same, as to modprobe(8), they are only where nothing has the very name.
        """
        names = [each.name for each in self.livepatches] + [each.name for each in self.leftovers]
        if name in names:
            return name
        return next((each for each in names if same_name(each, name)), None)

    def leftover(self, name: str) -> Leftover | None:
        return next((each for each in self.leftovers if each.name == name), None)

    @property
    def transition(self) -> Installed | None:
        """The livepatch whose transition is running, if any; the kernel runs one at a time."""
        return next((each for each in self.livepatches if each.transition), None)

    @property
    def settled(self) -> Stack:
        """The stack that the running transition ends in."""
        moving = self.transition
        if moving is None:
            return self
        return self._patched(moving) if moving.enabled else self._without(moving.name)

    @property
    def origin(self) -> Stack:
        """The stack that reversing the running transition leads to.

        That is the one it came from, unless it is a reversal itself: then it is where it was going to at first.
        """
        moving = self.transition
        if moving is None:
            return self
        return self._without(moving.name) if moving.enabled else self._patched(moving)

    def after(self, action: Action) -> Stack:
        """The stack once `action` has run to its end.

        A livepatch of which cannot be known whether it replaces is taken to: that is the case in which more is lost
        and which the kernel's rule is stricter about.
        """
        match action:
            case Load(livepatch):
                loaded = Installed.expected(livepatch)
                return self.settled._without(livepatch.name)._append(loaded)._patched(loaded)
            case Disable(name):
                return self.settled._without(name)
            case Reverse():
                return self.origin
            case Force(name):
                return self._forced(name).settled
            case Remove(name):
                return replace(self, leftovers=tuple(each for each in self.leftovers if each.name != name))

    @property
    def states(self) -> dict[int, int]:
        """State id -> version in force: where several livepatches carry an id, the newest of them counts.

        Livepatches with unknown states add nothing; `unknown` names them.
        """
        return {
            state.id: state.version
            for livepatch in self.livepatches
            for state in reversed(livepatch.carried or ())  # klp_get_state takes the first match within a livepatch
        }

    @property
    def unknown(self) -> tuple[str, ...]:
        """The names of the livepatches whose states cannot be known.

        Who may not look into kernel memory does not know what is there beside the declared ones.
        """
        return tuple(each.name for each in self.livepatches if (each.carried if self.readable else each.states) is None)

    def carrier(self, state_id: int) -> str | None:
        """The newest livepatch that carries the state."""
        return next(
            (
                each.name
                for each in reversed(self.livepatches)
                if any(state.id == state_id for state in each.carried or ())
            ),
            None,
        )

    def _forced(self, name: str) -> Stack:
        """With those marked whose modules forcing the transition of `name` makes the kernel keep: the one that is
        being disabled, or all others than one that replaces, the newer ones that stay included."""
        moving = self.transition
        if moving is None or moving.name != name or (moving.enabled and moving.replace is False):
            return self
        return replace(
            self,
            livepatches=tuple(
                replace(each, forced=True) if (each is moving) is not moving.enabled else each
                for each in self.livepatches
            ),
        )

    def _replaced(self, livepatches: tuple[Installed, ...]) -> Stack:
        gone = tuple(
            Leftover(each.name, removable=not each.forced, build_id=each.build_id)
            for each in self.livepatches
            if all(each.name != other.name for other in livepatches)
        )
        names = {each.name for each in livepatches}
        kept = tuple(each for each in self.leftovers if each.name not in names)
        return replace(self, livepatches=livepatches, leftovers=kept + gone)

    def _without(self, name: str) -> Stack:
        return self._replaced(tuple(each for each in self.livepatches if each.name != name))

    def _append(self, livepatch: Installed) -> Stack:
        return self._replaced((*self.livepatches, livepatch))

    def _patched(self, moving: Installed) -> Stack:
        """With the patching transition of `moving` complete: if it replaces, the older ones go and the newer ones stay
        (klp_free_replaced_patches_async stops at the livepatch itself)."""
        rank = next(rank for rank, each in enumerate(self.livepatches) if each.name == moving.name)
        older = () if moving.replace is not False else self.livepatches[:rank]
        patched = replace(moving, enabled=True, transition=False)
        return self._replaced((*older, patched, *self.livepatches[rank + 1 :]))


class ChangeKind(StrEnum):
    """What becomes of a state id between two stacks."""

    INTRODUCE = "introduce"
    KEEP = "keep"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class StateChange:
    """One state id, its version before and after; None is "not there".  Never None on both sides."""

    id: int
    before: int | None
    after: int | None

    @property
    def kind(self) -> ChangeKind:
        if self.before is None:
            return ChangeKind.INTRODUCE
        if self.after is None:
            return ChangeKind.DROP
        if self.before == self.after:
            return ChangeKind.KEEP
        return ChangeKind.UPGRADE if self.before < self.after else ChangeKind.DOWNGRADE


def changes(before: Mapping[int, int], after: Mapping[int, int]) -> tuple[StateChange, ...]:
    """The difference of two sets of states, ordered by id."""
    return tuple(StateChange(each, before.get(each), after.get(each)) for each in sorted({*before, *after}))


class Decision(StrEnum):
    """How a verdict ends.  UNKNOWN: the facts that the rules ask for were not to be had by who asked."""

    ALLOW = "allow"
    DENY = "deny"
    UNKNOWN = "unknown"


NOTES: Final = frozenset({"in-effect-at-once", "waits-for-module", "not-checked"})
"""The codes of findings that decide nothing: they tell what comes of an action, or what nobody could look at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's word on an action.

    `code` is stable and meant for programs; `message` says what is so, `remedy` what would have to be different.
    """

    decision: Decision
    code: str
    rule: Rule
    message: str
    remedy: str | None = None
    state: int | None = None
    livepatch: str | None = None

    def __str__(self) -> str:
        return f"{self.message} ({self.rule})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says of one action on one stack."""

    action: str
    livepatch: str
    decision: Decision
    changes: tuple[StateChange, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def reasons(self) -> tuple[Finding, ...]:
        """The findings that made the verdict what it is; for an approval, the rules that allowed it."""
        return tuple(each for each in self.findings if each.decision is self.decision and each.code not in NOTES)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """The findings that decide nothing."""
        return tuple(each for each in self.findings if each.code in NOTES)

    def about(self, state_id: int) -> Iterator[Finding]:
        """The findings on one state, those that deny first."""
        order = {Decision.DENY: 0, Decision.UNKNOWN: 1, Decision.ALLOW: 2}
        return iter(sorted((each for each in self.findings if each.state == state_id), key=lambda f: order[f.decision]))


class Outcome(StrEnum):
    """What a way of having a livepatch in force comes to.

    ALLOWED: it goes in by every rule.  LET_IN: it goes in all the same.  NOTHING: it is in force already, and that is
    success.  UNKNOWN: the facts were not to be had by who asked.
    """

    ALLOWED = "allowed"
    LET_IN = "let-in"
    NOTHING = "nothing"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Admission:
    """What a way of having a livepatch in force would come to now, and why it is so where there is anything to say."""

    outcome: Outcome
    reasons: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Assessment(Verdict):
    """The rules' verdict on loading a livepatch, and what becomes of it by each way: by a loader that opens its file,
    as insmod and modprobe do, and by `klpctl apply`.  None: whoever told the verdict does not tell that.
    """

    insmod: Admission | None = None
    apply: Admission | None = None


@dataclass(frozen=True, slots=True)
class Drift:
    """A livepatch that should not be there, with the verdict that says so."""

    livepatch: str
    verdict: Verdict
