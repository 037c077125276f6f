# SPDX-License-Identifier: GPL-2.0-or-later
"""What mutators have in common."""

from __future__ import annotations

from collections.abc import Callable

Plainly = Callable[[bytes, int], bytes]
"""A mutation of plain bytes, to at most so many: atheris.Mutate."""
Mutator = Callable[[bytes, int, int, Plainly], bytes]
"""A mutation of an input: to at most so many bytes, the same for the same seed as far as the plain mutation is."""
Crossing = Callable[[bytes, bytes, int, int], bytes]
"""An input made of two, of at most so many bytes, the same for the same seed."""
