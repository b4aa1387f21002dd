"""Microsoft Dynamics 365 Business Central: `items` of API v2.0.

The standard API knows neither warehouses nor reservations nor currencies of items.
"""

from typing import Any

from cerniq_stock.domain.model import ProductStatus
from cerniq_stock.erp.collect import Collector, Fields, named, nothing, records, the_list
from cerniq_stock.erp.config import ErpConfig
from cerniq_stock.erp.rows import Parsed, SkipCode
from cerniq_stock.erp.text import column_key


def parse(payload: Any, config: ErpConfig) -> Parsed:
    """Read one page `{"value": […]}` of items (MicrosoftDocs, dynamics_item).

    Only what is of type Inventory is stock; a payload without types is taken for stock. Prices are
    in the company's currency, which only `company_currency` knows. Raises PayloadError without the
    list.
    """
    collector = Collector(config)
    name = "Business Central"
    for where, item in records(the_list(payload, "value", name), "value", collector):
        kind = named(item, "type")
        if not nothing(kind[1]) and column_key(str(kind[1])) != "inventory":
            collector.skip(SkipCode.NOT_STOCKABLE, where, kind, item.get("number"))
            continue
        blocked = item.get("blocked")
        collector.add(
            Fields(
                where,
                named(item, "number"),
                named(item, "inventory"),
                price=named(item, "unitPrice"),
                currency=("company_currency", config.company_currency),
                status=("blocked", BLOCKED.get(blocked) if isinstance(blocked, bool) else None),
                modified=named(item, "lastModifiedDateTime"),
            )
        )
    return collector.parsed()


BLOCKED = {True: ProductStatus.INACTIVE.value, False: ProductStatus.ACTIVE.value}
"""What `blocked` says of a product; `status_map` has no say here."""
