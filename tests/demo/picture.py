# SPDX-License-Identifier: GPL-2.0-or-later
"""A picture of a terminal: what a command printed, colours included, as SVG.

`python3 -m tests.demo.picture OUT.svg < typescript` makes the README's pictures.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Final

_SGR: Final = re.compile(r"\033\[([0-9;]*)m")
_OTHER_CONTROLS: Final = re.compile(r"\033\[[0-9;?]*[A-Za-ln-z]|\033\]8;[^\033]*\033\\")
_COLOURS: Final = {31: "#f47067", 32: "#57ab5a", 33: "#daaa3f", 34: "#539bf5", 35: "#b083f0", 36: "#39c5cf"}
_PLAIN: Final = "#cdd9e5"
_BACKGROUND: Final = "#1c2128"
_CHARACTER: Final = 8.4
_LINE: Final = 19
_MARGIN: Final = 16


@dataclass(frozen=True, slots=True)
class Pen:
    """How text is drawn; the selections of SGR that klpctl makes (console_codes(4))."""

    colour: str = _PLAIN
    bold: bool = False
    dim: bool = False

    def after(self, codes: str) -> Pen:
        pen = self
        for code in (int(each or 0) for each in codes.split(";")):
            if code == 0:
                pen = Pen()
            elif code == 1:
                pen = replace(pen, bold=True)
            elif code == 2:
                pen = replace(pen, dim=True)
            elif code == 22:
                pen = replace(pen, bold=False, dim=False)
            elif code == 39:
                pen = replace(pen, colour=_PLAIN)
            else:
                pen = replace(pen, colour=_COLOURS.get(code, pen.colour))
        return pen


def picture(text: str) -> str:
    """SVG of the lines of `text`; of a line that was rewritten (carriage return), what was left in the end."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in _OTHER_CONTROLS.sub("", text).rstrip("\n").split("\n")]
    width = max(len(_SGR.sub("", line)) for line in lines) * _CHARACTER + 2 * _MARGIN
    height = len(lines) * _LINE + 2 * _MARGIN
    drawn, pen = [], Pen()
    for number, line in enumerate(lines, 1):
        spans, pen = _spans(line, pen)
        drawn.append(f'<text x="{_MARGIN}" y="{number * _LINE + _MARGIN - 5}" xml:space="preserve">{spans}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}"',
            '  font-family="ui-monospace, DejaVu Sans Mono, monospace" font-size="14">',
            f'<rect width="100%" height="100%" rx="8" fill="{_BACKGROUND}"/>',
            *drawn,
            "</svg>",
            "",
        ]
    )


def _spans(line: str, pen: Pen) -> tuple[str, Pen]:
    spans = []
    for part, codes in zip(_SGR.split(line)[::2], [*_SGR.findall(line), None], strict=True):
        if part:
            weight = ' font-weight="bold"' if pen.bold else ""
            opacity = ' opacity="0.6"' if pen.dim else ""
            spans.append(f'<tspan fill="{pen.colour}"{weight}{opacity}>{escape(part)}</tspan>')
        if codes is not None:
            pen = pen.after(codes)
    return "".join(spans), pen


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(sys.stdin.read()), encoding="utf-8")
