"""The command line: `cerniq-stock`. Thin over `cerniq_stock.service`, one function per command."""


def main() -> None:
    """Run the command that the arguments name; ends the process with its exit code."""
    from cerniq_stock.cli.app import app  # noqa: PLC0415 - importing the package costs nothing

    app()
