"""What a test says about what was understood, in few words."""

import json

from cerniq_stock.domain.messages import plain
from cerniq_stock.erp.config import read_config
from cerniq_stock.erp.payload import decode
from cerniq_stock.erp.systems import SYSTEMS
from cerniq_stock.erp.times import written


def parsed(system, payload, **config):
    """Read a payload the way it comes: as bytes."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return SYSTEMS[system].parse(decode(data), read_config(config))


def rows(found, *names):
    """The rows, each with the fields named, numbers and times as text."""
    return [tuple(_shown(getattr(row, name)) for name in names) for row in found.rows]


def told(remarks, *names):
    """The remarks, each with the fields named."""
    return [
        tuple(_shown(getattr(each, name)) for name in names or ("where", "code"))
        for each in remarks
    ]


def _shown(value):
    if hasattr(value, "quantize"):
        return plain(value)
    return written(value) if hasattr(value, "astimezone") else value
