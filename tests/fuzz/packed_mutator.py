# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to module files that may be compressed: mostly to what is in them, which is compressed anew."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from klpd import module
from klpd.errors import ModuleFormatError
from tests.fuzz import elf_mutator
from tests.unit.module.packing import PACK

if TYPE_CHECKING:
    from tests.fuzz.mutation import Plainly


def mutate(data: bytes, largest: int, seed: int, plainly: Plainly) -> bytes:
    """As elf_mutator.mutate; a compressed file stays one most of the time, and another one seldom becomes one."""
    rng = random.Random(seed)
    try:
        unpacked = module.unpack(data, file="")
    except ModuleFormatError:
        return plainly(data, largest)
    packed = unpacked is not data
    if packed and rng.random() < 0.5:
        return plainly(data, largest)
    changed = elf_mutator.mutate(unpacked, largest, seed, plainly)
    if rng.random() < (0.9 if packed else 0.01):
        changed = rng.choice(list(PACK.values()))(changed)
    return changed[:largest]
