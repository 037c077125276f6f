# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the reader of module files."""
