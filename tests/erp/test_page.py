"""The page about payloads names everything there is."""

from pathlib import Path

import pytest
from pydantic.alias_generators import to_camel

from cerniq_stock.erp.config import COLUMNS, ErpConfig
from cerniq_stock.erp.csv_source import CsvSettings
from cerniq_stock.erp.options import NAMES as OPTIONS
from cerniq_stock.erp.rows import ErrorCode, SkipCode, SystemName, WarningCode

PAGE = (Path(__file__).parents[2] / "docs" / "erp.md").read_text(encoding="utf-8")
NAMES = [*ErrorCode, *WarningCode, *SkipCode, *SystemName, *ErpConfig.model_fields, *COLUMNS]
NAMES += [*OPTIONS, *(to_camel(name) for name in CsvSettings.model_fields)]


@pytest.mark.parametrize("name", NAMES)
def test_every_code_system_and_key_is_documented(name):
    assert f"`{name}`" in PAGE
