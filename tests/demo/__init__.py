# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo`: klpd's main job played before the reader's eyes, on a real kernel in the test host."""
