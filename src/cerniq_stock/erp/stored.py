"""What is stored of an integration, sealed: how its source is reached, and how it is read.

`{"connection": {…}, "parse": {…}}`: the first are the system's own settings with their secrets,
the second is `config.ErpConfig`. It is kept as it was given, so that defaults stay defaults.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_core import to_jsonable_python

from cerniq_stock.erp.config import ErpConfig, read_config
from cerniq_stock.erp.connection import booking, read_connection
from cerniq_stock.erp.csv_source import CsvSettings, read_csv_settings
from cerniq_stock.erp.options import SyncOptions, read_object
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.errors import InvalidInputError

MAX_BYTES = 120_000
"""Of a configuration as JSON; the table takes a little more."""
HIDDEN = "***"

_PARTS = ("connection", "parse")
_MAPPED = frozenset({SystemName.CUSTOM_API, SystemName.SENIOR, SystemName.WIZCOUNT})


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration that was understood. Its repr shows nothing: some of it is secret."""

    connection: BaseModel = field(repr=False)
    parse: ErpConfig = field(repr=False)
    given: Mapping[str, Any] = field(repr=False)

    @property
    def pulls(self) -> bool:
        """Whether there is anything to fetch, or are files handed over only."""
        return not isinstance(self.connection, CsvSettings) or self.connection.looks

    def written(self) -> bytes:
        """All of it, secrets in the open, for `secrets.seal` alone."""
        return json.dumps(self.given, separators=(",", ":")).encode()

    def shown(self) -> dict[str, Any]:
        """What may be looked at: set secrets are `***`, whatever their length."""
        connection = self.connection.model_dump(by_alias=True, exclude_none=True)
        parse = self.parse.model_dump(mode="json", exclude_unset=True)
        return {"connection": _hidden(connection), "parse": parse}


def read_configuration(system: SystemName, data: bytes | str | Mapping[str, Any]) -> Configuration:
    """Read a configuration, as JSON or as an object.

    Raises InvalidInputError that names the key, and never what stood there.
    """
    given = read_object(data, "config", most=MAX_BYTES)
    for part in given:
        if part not in _PARTS:
            raise InvalidInputError(
                part, f"config: unknown key {part}; there may be connection, parse"
            )
    parts = {part: given.get(part, {}) for part in _PARTS}
    for part, value in parts.items():
        if not isinstance(value, Mapping):
            raise InvalidInputError(part, f"config: {part} must be a JSON object")
    read = Configuration(
        _connection(system, parts["connection"]), read_config(parts["parse"]), parts
    )
    _refuse_hidden(parts["connection"], "connection")
    if system in _MAPPED and read.parse.field_mapping is None:
        raise InvalidInputError("field_mapping", f"{system} needs parse.field_mapping")
    if len(read.written()) > MAX_BYTES:
        raise InvalidInputError("config", f"The config has more than {MAX_BYTES:,} bytes")
    return read


def check_push(system: SystemName, read: Configuration, options: SyncOptions) -> None:
    """Refuse to switch `push` on where nothing can be booked. Raises InvalidInputError."""
    if not options.push or booking(read.connection, read.parse) is not None:
        return
    if system in _MAPPED:
        raise InvalidInputError("push", f"{system} books no sales without its push settings")
    raise InvalidInputError("push", f"{system} takes no sales: push cannot be switched on")


def _connection(system: SystemName, given: Mapping[str, Any]) -> BaseModel:
    if system is SystemName.CSV_IMPORT:
        return read_csv_settings(given)
    return read_connection(system, given)


def _refuse_hidden(value: Any, path: str) -> None:
    """Refuse what was copied from a view; it would be stored as the secret itself.

    A secret that is not given is never taken from what is stored: whoever may change an address
    could have it sent to his own.
    """
    if value == HIDDEN:
        raise InvalidInputError(path, f"{path} is {HIDDEN}, as it is shown; give the secret itself")
    entries: Any = ()
    if isinstance(value, Mapping):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    for key, entry in entries:
        _refuse_hidden(entry, f"{path}.{key}")


def _hidden(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: _hidden(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(entry) for entry in value]
    return to_jsonable_python(value)
