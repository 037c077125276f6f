# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to certificates: to the DER, also where it is wrapped as PEM."""

from __future__ import annotations

import random
import re
from base64 import b64decode, encodebytes
from typing import TYPE_CHECKING, Final

from tests.fuzz import der_mutator

if TYPE_CHECKING:
    from tests.fuzz.mutation import Plainly

_WRAPPED: Final = re.compile(rb"(-----BEGIN CERTIFICATE-----\n)([A-Za-z0-9+/=\n]+)(-----END CERTIFICATE-----\n)")


def mutate(data: bytes, largest: int, seed: int, plainly: Plainly) -> bytes:
    """As der_mutator.mutate; of a PEM file, some of the time what is around the DER is changed."""
    rng = random.Random(seed)
    found = _WRAPPED.search(data)
    if found is None:
        return der_mutator.mutate(data, largest, seed, plainly)
    try:
        encoded = b64decode(found[2])
    except ValueError:
        return plainly(data, largest)
    if rng.random() < 0.2:
        return plainly(data, largest)
    wrapped = found[1] + encodebytes(der_mutator.mutate(encoded, len(encoded) + 256, seed, plainly)) + found[3]
    more = wrapped if rng.random() < 0.1 else b""
    return (data[: found.start()] + wrapped + more + data[found.end() :])[:largest]
