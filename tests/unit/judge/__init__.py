# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the judge: its rules as tables."""
