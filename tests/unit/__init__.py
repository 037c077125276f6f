# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that need no kernel but the one they run on, and no rights."""
