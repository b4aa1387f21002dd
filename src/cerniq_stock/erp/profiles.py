"""SeniorERP and WizCount: profiles of the configurable interface, unverified.

Nothing public describes how either of them answers. Their fields are settings, and nothing is
assumed in their place.
"""

from typing import Any

from cerniq_stock.erp import custom_api
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.rows import Parsed


def parse_senior(payload: Any, config: ErpConfig) -> Parsed:
    """Read one page of SeniorERP by `field_mapping`; see `custom_api.parse`."""
    return custom_api.parse(payload, config, system="SENIOR")


def parse_wizcount(payload: Any, config: ErpConfig) -> Parsed:
    """Read one page of WizCount by `field_mapping`; see `custom_api.parse`."""
    return custom_api.parse(payload, config, system="WIZCOUNT")
