# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge: pure functions from a stack, an action and a policy to a verdict.  No I/O, no clock, no logging."""
