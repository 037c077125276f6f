# SPDX-License-Identifier: GPL-2.0-or-later
"""A livepatch as klpd loads it: the parameters are known then, and with them what depends on them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from klpd.module.reader import read_livepatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from klpd.layout import Layouts
    from klpd.model import Livepatch


def as_loaded(
    livepatch: Livepatch, data: Callable[[], bytes], parameters: Sequence[str], file: str, layouts: Layouts
) -> Livepatch:
    """A livepatch that was read as true of any parameters, and of which `data` gives the bytes, as it is when it is
    loaded with these (NAME=VALUE).

    Raises UsageError for parameters that it does not have, and what `data` does.
    """
    if not parameters and None not in (livepatch.replace, livepatch.states, livepatch.objects):
        return replace(livepatch, parameters=())  # nothing depends on any
    loaded = read_livepatch(data(), file=file, layouts=layouts, parameters=parameters)
    return replace(loaded, declared=livepatch.declared)
