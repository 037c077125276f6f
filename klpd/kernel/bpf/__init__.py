# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs that run in the kernel: C sources, and the objects that `make bpf` compiles from them."""

from __future__ import annotations

from pathlib import Path


def object_path(name: str) -> Path:
    """Where the compiled `NAME.bpf.c` is."""
    return Path(__file__).with_name(f"{name}.bpf.o")
