"""What only people see: tables and bars. Apart from `output`, since Rich is slow to import."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich import box
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from cerniq_stock.cli.output import WIDTH


def draw(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: set[int]) -> None:
    """Print rows under column names to stdout; no value is cut short, no line ends in blanks."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=any(columns))
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = _console(sys.stdout)
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
