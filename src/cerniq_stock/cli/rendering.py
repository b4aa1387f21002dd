"""What only people see: tables and bars. Apart from `output`, since Rich is slow to import."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from cerniq_stock.cli.output import WIDTH

GAP = 2
PROSE = 12
"""A column of texts gets at least so much."""


def draw(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: set[int]) -> None:
    """Print rows under column names to stdout. No value is cut short, and no word is broken."""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        show_header=any(columns),
    )
    needed = 0
    for number, name in enumerate(columns):
        cells = [name, *[row[number] for row in rows]]
        one_word = not any(" " in cell for cell in cells)
        longest = max(map(cell_len, cells))
        needed += GAP + (longest if one_word else min(longest, PROSE))
        side: Literal["left", "right"] = "right" if number in right else "left"
        table.add_column(name, justify=side, no_wrap=one_word, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = _console(sys.stdout)
    # rather a line too long than half an id on the next one
    console.width = max(console.width, needed)
    with console.capture() as drawn:
        console.print(table)
    print("\n".join(map(str.rstrip, drawn.get().splitlines())))


def _console(stream: TextIO) -> Console:
    """Colours on a terminal that wants them only; what is no terminal is WIDTH columns wide."""
    people = stream.isatty()
    plain = not people or Console().no_color
    return Console(
        file=stream,
        force_terminal=people,
        color_system=None if plain else "auto",
        width=shutil.get_terminal_size((WIDTH, 24)).columns,
        highlight=False,
        markup=False,
        emoji=False,
    )


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows how far each stage of a work is, while it lasts."""
    tasks: dict[str, TaskID] = {}
    with Progress(console=_console(sys.stderr), transient=True) as progress:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total or None)
            progress.update(tasks[stage], completed=done, total=total or None)

        yield report
