# SPDX-License-Identifier: GPL-2.0-or-later
"""The readers of anybody's bytes under a coverage-guided fuzzer (README.md)."""
