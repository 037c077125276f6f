# SPDX-License-Identifier: GPL-2.0-or-later
"""The plans that are asked for, each made on the stack as it is at that moment.

All of it reads files or the kernel: it is for workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.daemon.handed import read_files
from klpd.errors import JobError, KlpdError, NoSuchLivepatchError, UsageError
from klpd.judge.planner import plan_apply_all, plan_disable, plan_force, plan_remove, plan_revert
from klpd.judge.ways import Source, assess
from klpd.model import same_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from klpd.daemon.handed import HandedOver, NamedFile
    from klpd.daemon.policies import Policies
    from klpd.daemon.running import Kernel
    from klpd.daemon.store import History, Moment, Store
    from klpd.judge.planner import Plan
    from klpd.judge.ways import Gate
    from klpd.layout import Layouts
    from klpd.model import Assessment, Installed, Livepatch, Stack

ORIGINAL: Final = "original"
"""What `to` says for the unpatched kernel."""


class Planning:
    """Makes plans; `remember` keeps a livepatch that is to be loaded.  Every method may raise KlpdError.

    `watched` tells of an open file whether it is judged when somebody opens it, `gate` what is refused now.
    """

    def __init__(
        self,
        kernel: Kernel,
        policies: Policies,
        store: Store,
        layouts: Layouts,
        remember: Callable[[Livepatch, bytes], None],
        watched: Callable[[int], bool],
        gate: Callable[[], Gate],
    ) -> None:
        self._kernel = kernel
        self._policies = policies
        self._store = store
        self._layouts = layouts
        self._remember = remember
        self._watched = watched
        self._gate = gate

    def check(self, file: NamedFile, manifests: Sequence[NamedFile], budget: int | None = None) -> Assessment:
        """The verdict on loading a file now, and what becomes of it by each way.  For `budget` see read_files."""
        descriptor, name = file
        watched = self._watched(descriptor.fileno())
        (handed,) = self._read([file], manifests, budget)
        source = Source(name, watched, handed.packed, handed.distrust)
        stack, policy = self._kernel.surrounded(self._kernel.stack(), (handed.livepatch,)), self._policies.current
        return assess(stack, handed.livepatch, policy, source, self._gate(), handed.loaded)

    def apply(
        self,
        files: Sequence[NamedFile],
        manifests: Sequence[NamedFile],
        parameters: Sequence[tuple[str, ...]] = (),
        budget: int | None = None,
    ) -> Plan:
        """To load the files, in this order, each with parameters.  For `budget` see read_files."""
        return self._applying(self._read(files, manifests, budget, parameters))

    def apply_for(
        self,
        uid: int,
        files: Sequence[NamedFile],
        manifests: Sequence[NamedFile],
        parameters: Sequence[tuple[str, ...]] = (),
    ) -> Plan:
        """The same for a user who is going to have it done: what is to be loaded is remembered."""
        handed = self._read(files, manifests, parameters=parameters)
        for each in handed:
            each.check_author(uid)
        for each in handed:
            self._remember(each.livepatch, each.data)
        return self._applying(handed)

    def approve_for(self, uid: int, file: NamedFile, manifests: Sequence[NamedFile]) -> Livepatch:
        """The livepatch in a file that a user has approved: it is remembered, as what may be loaded."""
        (handed,) = self._read([file], manifests)
        handed.check_author(uid)
        self._remember(handed.livepatch, handed.data)
        return handed.livepatch

    def disable(self, name: str) -> Plan:
        """To disable a livepatch and remove its module; NoSuchLivepatchError where there is none."""
        return plan_disable(*self._stack_with(name), self._policies.current)

    def take_out(self, name: str) -> Plan:
        """The same, but to reverse its transition where that has not yet brought it into force."""
        stack, name = self._stack_with(name)
        moving = stack.transition
        if moving is not None and moving.name == name and moving.enabled:
            return plan_revert(stack, (), self._policies.current)
        return plan_disable(stack, name, self._policies.current)

    def remove(self, name: str) -> Plan:
        """To remove the module of a livepatch that is no longer in force; NoSuchLivepatchError as above."""
        return plan_remove(*self._stack_with(name), self._policies.current)

    def force(self, name: str) -> Plan:
        """To force the running transition, that of the livepatch `name` (empty: whichever runs)."""
        stack = self._kernel.stack()
        moving = stack.transition
        if moving is None:
            raise UsageError("no transition runs, and so there is none to be forced")
        if name and not same_name(name, moving.name):
            raise UsageError(f"the transition that runs is not that of {name}, but of {moving.name}")
        return plan_force(stack, moving.name, self._policies.current)

    def revert(self, to: str) -> Plan:
        """To reverse the running transition, or to go back: `to` is as in the manager's Revert."""
        return self._reverting(self._kernel.stack(), to)

    def revert_as_asked(self, to: str, asked: Installed | None) -> Plan:
        """The same for a job, but JobError where the transition that runs is another than when somebody `asked`."""
        stack = self._kernel.stack()
        _check_same_transition(asked, stack.transition)
        plan = self._reverting(stack, to)
        if stack.transition is None:
            self._store.set_out(undoing=not to)
        return plan

    def transition(self) -> Installed | None:
        """The livepatch whose transition runs."""
        return self._kernel.stack().transition

    def _read(
        self,
        files: Sequence[NamedFile],
        manifests: Sequence[NamedFile],
        budget: int | None = None,
        parameters: Sequence[tuple[str, ...]] = (),
    ) -> tuple[HandedOver, ...]:
        return read_files(files, manifests, self._store.declared, self._layouts, budget, parameters)

    def _applying(self, handed: Sequence[HandedOver]) -> Plan:
        livepatches = [each.loaded for each in handed]
        stack = self._kernel.surrounded(self._kernel.stack(), livepatches)
        return plan_apply_all(stack, livepatches, self._policies.current)

    def _stack_with(self, name: str) -> tuple[Stack, str]:
        """The stack, and what the livepatch is called there that somebody means by `name`."""
        stack = self._kernel.stack()
        named = stack.named(name)
        if named is None:
            raise NoSuchLivepatchError(f"no livepatch named {name} is installed; klpctl status lists those that are")
        return stack, named

    def _reverting(self, stack: Stack, to: str) -> Plan:
        wanted = () if stack.transition is not None else self._wanted(stack, to)
        if wanted:
            stack = self._kernel.surrounded(stack, wanted)
        return plan_revert(stack, wanted, self._policies.current)

    def _wanted(self, stack: Stack, to: str) -> tuple[Livepatch, ...]:
        if to == ORIGINAL:
            return ()
        self._store.observe(stack)
        history = self._store.history
        moment = history.newest(to) if to else history.before
        if moment is None:
            raise _nowhere(to, history)
        return self._remembered(moment)

    def _remembered(self, moment: Moment) -> tuple[Livepatch, ...]:
        wanted = []
        for member in moment.members:
            livepatch = None if member.digest is None else self._store.as_loaded(member.digest, member.parameters)
            if livepatch is None:
                raise KlpdError(
                    f"klpd never saw the file of {member.name}, or has it no more, and so cannot load it again; "
                    "apply it from its file: klpctl apply FILE"
                )
            wanted.append(livepatch)
        return tuple(wanted)


def _check_same_transition(asked: Installed | None, now: Installed | None) -> None:
    """See that a way back means what it meant when somebody asked for it.  Raises JobError."""
    if asked is not None and (now is None or now.name != asked.name):
        raise JobError(
            f"the transition of {asked.name} had come to its end before it could be reversed, and nothing was done; "
            "ask again to go back further"
        )
    if asked is not None and now is not None and now.enabled is not asked.enabled:
        raise JobError(
            f"the transition of {asked.name} was reversed by somebody else before, and nothing was done; "
            "ask again to turn it round once more"
        )
    if asked is None and now is not None:
        raise JobError(
            f"the transition of {now.name} has begun meanwhile, and nothing was done; ask again to reverse it"
        )


def _nowhere(to: str, history: History) -> UsageError:
    if not to:
        return UsageError(
            "there is no change to undo that klpd has seen since the machine booted; "
            "to the unpatched kernel leads: klpctl revert --to original"
        )
    seen = sorted({each.members[-1].name for each in history.moments if each.members})
    return UsageError(
        f"klpd has seen no time before the present at which {to} was the newest livepatch; those were: "
        + (", ".join(seen) or "none")
    )
