"""What is left on a terminal after a program has drawn and erased on it."""

from __future__ import annotations

import io
import re

_PIECE = re.compile(
    r"\x1b\[(?P<number>\d*)(?P<verb>[A-Za-z])|\x1b\[\?\d+[hl]|(?P<sign>[\r\n])|(?P<text>[^\x1b\r\n]+)"
)


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def __init__(self) -> None:
        self.written = io.BytesIO()
        super().__init__(self.written, encoding="utf-8", newline="", write_through=True)

    def isatty(self) -> bool:
        return True

    def seen(self) -> str:
        """The lines that one sees in the end, colours and blanks at line ends aside."""
        lines, row, column = [""], 0, 0
        for piece in _PIECE.finditer(self.written.getvalue().decode()):
            if piece["text"]:
                lines[row] = (
                    lines[row][:column].ljust(column)
                    + piece["text"]
                    + lines[row][column + len(piece["text"]) :]
                )
                column += len(piece["text"])
            elif piece["sign"]:
                column = 0
                row += piece["sign"] == "\n"
                lines += [""] * (row == len(lines))
            elif piece["verb"] == "A":
                row -= int(piece["number"] or 1)
            elif piece["verb"] == "K":
                lines[row] = ""
        return "".join(f"{line.rstrip()}\n" for line in lines).rstrip("\n") + "\n"
