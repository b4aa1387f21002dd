"""The tree of commands, and the one place where trouble becomes a sentence and an exit code."""

import inspect
import logging
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cerniq_stock.cli import (
    checks,
    database,
    doctor,
    erp,
    jobs,
    levels,
    negotiations,
    orders,
    output,
    products,
    questions,
    reservations,
    reserving,
    running,
    tenants,
)
from cerniq_stock.cli.call import (
    CONTEXT,
    Call,
    Globals,
    command,
    enter_group,
    top_level,
    with_options,
)
from cerniq_stock.cli.output import Shown
from cerniq_stock.cli.problems import (
    EXIT_CODES,
    INTERRUPTED,
    USAGE,
    Problem,
    UsageProblemError,
    one_line,
    problem_of,
)

NAME = "cerniq-stock"

# Typer names its parse errors in no public place; those that it does name derive from them
USAGE_ERROR = typer.BadParameter.__mro__[1]
_BEFORE_CHOICES = (" is not one of ", "Choose from: ")


class Root(TyperGroup):
    """`cerniq-stock` itself."""

    def main(
        self,
        args: Any = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run one command line and end the process with its exit code, under any name."""
        del prog_name, standalone_mode
        given = list(sys.argv[1:] if args is None else args)
        # what the engine logs is said in one sentence here
        logging.getLogger().addHandler(logging.NullHandler())
        try:
            code = super().main(
                given, NAME, complete_var, False, windows_expand_args, obj=Globals(), **extra
            )
        except BrokenPipeError:
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - no traceback, ever
            code = _tell(error, as_json="--json" in given)
        else:
            if code == INTERRUPTED:
                _tell(KeyboardInterrupt(), as_json="--json" in given)
        sys.exit(code)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command; the benchmarks are looked up only when they are meant."""
        name, found, rest = super().resolve_command(ctx, args)
        if name == "bench":
            options = Globals()  # those before the name: the callback has not run yet
            options.update(ctx.params)
            found, rest = _bench(options, rest)
        return name, found, rest


def _tell(error: BaseException, *, as_json: bool) -> int:
    problem = _usage_problem(error) or problem_of(error)
    output.show_problem(problem, as_json=as_json)
    return problem.exit_code


def _usage_problem(error: BaseException) -> Problem | None:
    if not isinstance(error, USAGE_ERROR):
        return None
    unknown: Any = error
    context = unknown.ctx
    path = NAME if context is None else context.command_path
    sentence = _with_choices(one_line(unknown.format_message()).rstrip("."), unknown)
    if type(error).__name__ == "NoArgsIsHelpError":
        sentence = "Missing command"
    return Problem(USAGE, "USAGE", f"{sentence}; see {path} --help")


def _with_choices(sentence: str, unknown: Any) -> str:
    """Name what may be chosen as the documents do; Typer names it in small letters."""
    option = getattr(getattr(unknown, "param", None), "type_descriptor", None)
    choices = getattr(option, "choices", None)
    if choices is None:
        return sentence
    sentence = sentence.replace(": Value error, ", ": ", 1)
    for words in _BEFORE_CHOICES:
        before, found, _ = sentence.rpartition(words)
        if found:
            return f"{before}{words}{', '.join(choice.value for choice in choices)}"
    return sentence


def _bench(options: Globals, rest: list[str]) -> tuple[Any, list[str]]:
    from cerniq_stock.bench.cli import app as bench_app  # noqa: PLC0415 - seldom used

    _refuse_database(options)
    return typer.main.get_command(bench_app), [*rest, *(["--json"] if options.json else [])]


def _refuse_database(options: Globals) -> None:
    """The demo and the benchmarks make databases of their own, on the configured server."""
    if options.database is not None:
        raise UsageProblemError(
            "USAGE", "Here the server is named by CERNIQ_DATABASE_URL, not by --database"
        )


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{NAME} {version(NAME)}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Say which this is."),
]


def _enter(ctx: typer.Context, show_version: VersionOption = False) -> None:
    del show_version
    enter_group(ctx)


def _epilog() -> str:
    codes = [f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items()]
    examples = [
        "  cerniq-stock tenant create 'Office Supplies Wholesale'",
        "  cerniq-stock stock show",
        "  cerniq-stock reserve --help",
    ]
    return "\n".join(["\b", "Examples:", *examples, "", "\b", "Exit codes:", *codes])


own = top_level()


@command(own, "demo", "demo", "demo --json")
def demo(call: Call) -> Shown:
    """Replay five days of real trade on a scratch database.

    Then every operation is shown once, with its answer.
    """
    _refuse_database(call.options)
    from cerniq_stock.demo import demo_command  # noqa: PLC0415 - it brings everything

    raise typer.Exit(demo_command(as_json=call.options.json))


@command(own, "bench", "bench --help", "bench reserve --json")
def bench(call: Call) -> Shown:
    """Measure the engine on a scratch database.

    Its commands: cerniq-stock bench --help.
    """
    raise AssertionError(call)  # `Root.resolve_command` puts the real one in its place


app = typer.Typer(
    cls=Root,
    help=(
        "Stock engine for B2B sales platforms: reservations that never oversell.\n\n"
        "Data goes to stdout, all else to stderr; every command takes --json."
    ),
    epilog=_epilog(),
    context_settings=CONTEXT,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.callback(invoke_without_command=True)(
    with_options(_enter, list(inspect.signature(_enter).parameters.values())[1:])
)
for part, title in (
    (database.app, "database"),
    (doctor.commands, None),
    (tenants.app, "tenant"),
    (products.app, "product"),
    (levels.app, "stock"),
    (negotiations.app, "negotiation"),
    (reserving.commands, None),
    (reservations.commands, None),
    (reservations.app, "reservation"),
    (orders.app, "order"),
    (jobs.app, "job"),
    (erp.app, "erp"),
    (running.commands, None),
    (questions.commands, None),
    (checks.commands, None),
    (own, None),
):
    app.add_typer(part, name=title)
