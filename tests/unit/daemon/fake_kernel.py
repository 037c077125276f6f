# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel for sequences to act on: it keeps a stack by the model's own rules and refuses what the real one refuses."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from klpd.errors import KernelError, OvertakenError
from klpd.model import Disable, Force, Installed, Livepatch, Load, Remove, Stack, Surroundings
from klpd.report import Straggler, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from klpd.model import Circumstances, State

RELEASE = "6.1.0-test"


def livepatch(
    name: str, *, digest: str | None = None, cumulative: bool = True, states: tuple[State, ...] = ()
) -> Livepatch:
    """A livepatch for RELEASE."""
    return Livepatch(
        name=name,
        digest=digest or name,
        size=1,
        replace=cumulative,
        states=states,
        objects=(),
        vermagic=f"{RELEASE} SMP",
        build_id=name,
    )


@dataclass
class FakeKernel:
    """`lasting` is how many looks a transition takes, None for one that never ends by itself; `reversal_lasting` how
    many a reversed one does.  `before_write` is what happens between a verdict and the writes that follow it, one each.
    """

    files: dict[str, Livepatch]
    lasting: int | None = 1
    now: Stack = field(default_factory=lambda: Stack(kernel_release=RELEASE))
    calls: list[str] = field(default_factory=list)
    on_look: Callable[[int], None] = lambda _looks: None
    busy_removals: int = 0
    reversal_lasting: int | None = 0
    before_write: list[Callable[[], None]] = field(default_factory=list)
    looks: int = 0
    around: Surroundings = field(default_factory=Surroundings)
    _left: int | None = None

    def stack(self) -> Stack:
        self.looks += 1
        self.on_look(self.looks)
        if self.now.transition is not None and self._left is not None:
            if self._left == 0:
                self.settle()
            else:
                self._left -= 1
        return self.now

    def circumstances(self) -> Circumstances:
        return self.around.circumstances

    def surrounded(
        self, stack: Stack, coming: Iterable[Livepatch], circumstances: Circumstances | None = None
    ) -> Stack:
        return replace(stack, surroundings=self.around)

    def load(self, data: bytes, name: str, judged: Stack | None = None, parameters: str = "") -> None:
        self._come_to_write(judged)
        self.calls.append(f"load {name} {parameters}".strip())
        wanted = self.files[data.decode()]
        moving = replace(Installed.expected(wanted), transition=True)
        settled = self.now.after(Load(wanted))
        leftovers = tuple(each for each in self.now.leftovers if each.name != name)
        self.change(replace(self.now, livepatches=(*self.now.livepatches, moving), leftovers=leftovers))
        assert self.now.settled.livepatches == settled.livepatches
        self._left = self.lasting

    def set_enabled(self, name: str, *, enabled: bool, judged: Stack | None = None) -> None:
        """Without a stack that it was judged on, as somebody else does."""
        self._come_to_write(judged)
        self.calls.append(f"{'enable' if enabled else 'disable'} {name}")
        moving = self.now.transition
        if moving is not None and moving.name != name:
            raise KernelError(f"cannot disable {name}", errno.EBUSY)
        self._left = self.lasting if moving is None else self.reversal_lasting
        self.change(
            replace(
                self.now,
                livepatches=tuple(
                    replace(each, enabled=enabled, transition=True) if each.name == name else each
                    for each in self.now.livepatches
                ),
            )
        )

    def remove(self, name: str) -> None:
        self.calls.append(f"remove {name}")
        if self.busy_removals:
            self.busy_removals -= 1
            raise KernelError(f"cannot remove module {name}", errno.EAGAIN)
        self.now = self.now.after(Remove(name))

    def force(self, name: str, judged: Stack | None = None) -> None:
        self._come_to_write(judged)
        self.calls.append(f"force {name}")
        self.change(self.now.after(Force(name)))

    def transition(self, stack: Stack) -> Transition | None:
        moving = stack.transition
        if moving is None:
            return None
        late = Straggler(7, 7, "sleeper") if moving.enabled else Straggler(8, 8, "runner")
        return Transition(moving.name, "patched" if moving.enabled else "unpatched", 2, (late,))

    def wait(self, stack: Stack, seconds: float) -> None:
        assert seconds > 0

    def wake(self) -> None:
        pass

    def _come_to_write(self, judged: Stack | None) -> None:
        if judged is None:
            return
        if self.before_write:
            self.before_write.pop(0)()
        if judged.generation != self.now.generation:
            raise OvertakenError("nothing was written")

    def change(self, now: Stack) -> None:
        """A transition begins or ends."""
        self.now = replace(now, generation=self.now.generation + 1)

    def settle(self) -> None:
        """The transition ends."""
        self.change(self.now.settled)

    def install(self, *livepatches: Livepatch) -> None:
        """As if they had been loaded long ago."""
        for each in livepatches:
            self.change(self.now.after(Load(each)))

    def disable_behind_the_back(self, name: str) -> None:
        """What a root user with `echo 0` does."""
        self.change(self.now.after(Disable(name)))
