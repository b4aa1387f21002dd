"""The page `docs/cli.md`, made from the commands themselves."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import typer

from cerniq_stock import validate
from cerniq_stock.cli import reserving, tenants
from cerniq_stock.cli.app import NAME, app
from cerniq_stock.cli.call import SHARED
from cerniq_stock.cli.options import MOST_ROWS
from cerniq_stock.cli.problems import EXIT_CODES, REFUSALS, TROUBLE
from cerniq_stock.domain.model import DECIMAL_PLACES
from cerniq_stock.store.writer import Limits

# That an argument is text goes without saying; choices do not.
_TYPE = re.compile(r" <(str|list\[str\])>$")

_HEAD = f"""# The command line

Every capability of the engine as a command. `{NAME} COMMAND --help` shows what stands here.
Generated from the commands by `cerniq_stock.cli.reference`; a test fails when this page is not
current (`CERNIQ_WRITE_DOCS=1 make test` writes it).

- Data goes to stdout, everything else (warnings, progress, errors) to stderr.
- With `--json` stdout is one JSON document with the field names of the specification (camelCase),
  and nothing else. Where the exit code is not 0 it is
  `{{"error": {{"code": …, "message": …, "field": …}}}}`, and beside it `"answer"` where a
  reservation that holds nothing says why line by line. Only `verify` and `doctor` answer with
  their report and `"ok": false` instead.
- Quantities are exact decimals in the product's unit. Times are local for people, and ISO 8601
  with their zone in JSON; what never expires has `null`.
- Without a terminal there are no colours and no bars; `NO_COLOR` takes the colours away on one.
- A list shows at most `--limit` rows; what to go on with is said on stderr.
- `--key` makes a command repeatable: again with the same key and the same arguments it changes
  nothing and gives the first answer. After exit code 7 repeat it with its key.
"""


def page() -> str:
    """Write the whole page."""
    root: Any = typer.main.get_command(app)
    context = root.make_context(NAME, [], resilient_parsing=True)
    shared = [param for param in root.get_params(context) if param.name in SHARED]
    parts = [
        _HEAD,
        "## Options of every command\n\nBefore or after the command's name.\n",
        _list(shared, context),
        _exit_codes(),
        _limits(),
        "## Commands\n",
        *_commands(root, context),
    ]
    return "\n".join(parts)


def _exit_codes() -> str:
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    refusals, trouble = (
        "\n".join(f"| `{code}` | {exit_code} |" for code, exit_code in table.items())
        for table in (REFUSALS, TROUBLE)
    )
    return (
        f"## Exit codes\n\n| code | meaning |\n|---|---|\n{codes}\n\n"
        "What the engine refuses, with the `code` in the JSON document"
        f" ([meanings](refusals.md)):\n\n| refusal | exit code |\n|---|---|\n{refusals}\n\n"
        "What keeps it from answering; the lower ones are about ERPs ([docs/erp.md](erp.md)):\n\n"
        f"| trouble | exit code |\n|---|---|\n{trouble}\n"
    )


def _limits() -> str:
    """Figures that a caller runs into, each taken from where it is enforced."""
    writer = Limits()
    hours = f"1 to {validate.MAX_HOURS}"
    most = f"{tenants.MOST:,}"
    extensions, hours_in_all = (
        _default(tenants.create, name) for name in ("max_extensions", "max_hours")
    )
    whole = ", ".join(unit for unit, places in DECIMAL_PLACES.items() if not places)
    return f"""## Defaults and limits

| of | limit | default |
|---|---|---|
| lines of a reservation, or of a release or sale in part | 1 to {validate.MAX_LINES} | |
| quantity of a line of a reservation | above 0, at most {validate.MAX_QUANTITY:,} | |
| lines of an order | 1 to {validate.MAX_ORDER_LINES:,} | |
| every other quantity | at most {validate.MAX_STOCK:,} | |
| decimal places of a quantity | {max(DECIMAL_PLACES.values())}; none in {whole} | |
| `reserve --hours`, `replace --hours` | {hours} | {_default(reserving.reserve, "hours")} |
| `extend --hours` | {hours} | |
| extensions of a reservation, `tenant create --max-extensions` | 0 to {most} | {extensions} |
| hours in all, once extended, `tenant create --max-hours` | 1 to {most} | {hours_in_all} |
| `--key` | {validate.MAX_KEY} characters | |
| SKU | {validate.MAX_SKU} characters | |
| `--by` | {validate.MAX_NAME} characters | |
| `--notes` | {validate.MAX_NOTES} characters | |
| `--limit` | 1 to {MOST_ROWS:,} | as each command says |
| commands that wait in one process, then exit code 7 | {writer.waiting:,} | |
| those of one tenant, then exit code 7 | {writer.waiting_per_tenant:,} | |
| wait for a database that is away, then exit code 7 | {writer.reconnect_s:g} s | |
"""


def _default(body: Callable[..., Any], name: str) -> Any:
    return inspect.signature(body).parameters[name].default


def _commands(group: Any, context: Any) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        if hasattr(command, "list_commands"):
            yield from _commands(command, inner)
        else:
            yield _command(command, inner)


def _command(command: Any, context: Any) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    own = [param for param in command.get_params(context) if param.name not in {*SHARED, "help"}]
    lines = [
        f"### {context.command_path}\n",
        f"{inspect.cleandoc(command.help)}\n",
        f"```text\n{usage}\n```\n",
        *([_list(own, context)] if own else []),
        "```sh",
        *[line.strip() for line in command.epilog.splitlines() if line.startswith("  ")],
        "```\n",
    ]
    return "\n".join(lines)


def _list(params: list[Any], context: Any) -> str:
    records = [param.get_help_record(context) for param in params]
    known = [record for record in records if record is not None]
    return "\n".join([*[f"- `{_TYPE.sub('', name)}`: {text}" for name, text in known], ""])
