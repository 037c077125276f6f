# SPDX-License-Identifier: GPL-2.0-or-later
"""Small real livepatches for the tests and the demo: a table of them, their C sources, and what builds them."""
