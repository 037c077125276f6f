# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of what reads and changes the kernel, as far as files that look like its own can tell."""
