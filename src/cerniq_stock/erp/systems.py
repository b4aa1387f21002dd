"""The systems: how each is read, what it can do, and how well that is known."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cerniq_stock.erp import custom_api, microsoft_bc, oblio, profiles, saga, sap_b1
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.rows import Parsed, SystemName

Parse = Callable[[Any, ErpConfig], Parsed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a system's interface knows and does.

    `incremental`: it tells what changed in stock since a moment. `by_sku`: it can be asked for
    single products. `webhook`: it reports by itself. `push`: it takes stock back. `reserved`: it
    knows reservations. `warehouses`, `currency`: it names them.
    """

    incremental: bool
    by_sku: bool
    webhook: bool
    push: bool
    reserved: bool
    warehouses: bool
    currency: bool


@dataclass(frozen=True, slots=True)
class System:
    """One system. `parse` is None where files are read (`csv_import.parse_file`).

    `verified` says whether its wire format is written down anywhere, `basis` where.
    """

    name: SystemName
    title: str
    parse: Parse | None
    capabilities: Capabilities
    verified: bool
    basis: str


def _can(**can: bool) -> Capabilities:
    no = dict.fromkeys(
        ("incremental", "by_sku", "webhook", "push", "reserved", "warehouses", "currency"), False
    )
    return Capabilities(**no | can)


_MAPPED = _can(incremental=True, by_sku=True, reserved=True, warehouses=True, currency=True)
_TELLING = replace(_MAPPED, webhook=True)

SYSTEMS: dict[SystemName, System] = {
    system.name: system
    for system in (
        System(
            *(SystemName.SAGA, "SAGA", saga.parse),
            _TELLING,
            *(True, "the platform's specification; the vendor documents no REST interface"),
        ),
        System(
            *(SystemName.SENIOR, "SeniorERP", profiles.parse_senior),
            _MAPPED,
            *(False, "nothing public; a configurable profile"),
        ),
        System(
            *(SystemName.WIZCOUNT, "WizCount", profiles.parse_wizcount),
            _MAPPED,
            *(False, "nothing public; a configurable profile"),
        ),
        System(
            *(SystemName.SAP_B1, "SAP Business One", sap_b1.parse),
            # UpdateDate is that of the item's master data; whether stock moves it is not documented
            _can(
                by_sku=True, webhook=True, push=True, reserved=True, warehouses=True, currency=True
            ),
            *(True, "Working with SAP Business One Service Layer 1.28"),
        ),
        System(
            *(SystemName.MICROSOFT_BC, "Microsoft Dynamics 365 Business Central"),
            microsoft_bc.parse,
            # inventory is said to be read-only, and a PATCH of it has no id to find a repeat by
            _can(incremental=True, by_sku=True, webhook=True),
            *(True, "Microsoft's documentation of API v2.0"),
        ),
        System(
            *(SystemName.OBLIO, "Oblio", oblio.parse),
            _can(by_sku=True, webhook=True, warehouses=True, currency=True),
            *(True, "oblio.eu/api"),
        ),
        System(
            *(SystemName.CUSTOM_API, "REST interface of your own", custom_api.parse),
            _TELLING,
            *(True, "its own field_mapping"),
        ),
        System(
            *(SystemName.CSV_IMPORT, "CSV and XLSX files", None),
            # a file that was read before brings nothing
            _can(incremental=True, reserved=True, warehouses=True, currency=True),
            *(True, "the file's own header, or columns"),
        ),
    )
}
"""Every system by its name."""
