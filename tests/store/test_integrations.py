"""Integrations on a real PostgreSQL: sealed at their place, shown without secrets, keys changed."""

import asyncio
import json
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import asyncpg
import pytest
from tests.helpers import put, shop, uid

from cerniq_stock import wire
from cerniq_stock.domain.model import Tenant
from cerniq_stock.domain.sync import Strategy
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.options import NAMES, SyncOptions, read_options
from cerniq_stock.erp.secrets import Keys, SecretsError, new_key, read_keys
from cerniq_stock.errors import InvalidInputError, NotFoundError
from cerniq_stock.integrations import Integrations
from cerniq_stock.settings import Settings
from cerniq_stock.store import integrations as store
from cerniq_stock.store.database import create_pool
from cerniq_stock.wiring import erp_policy, open_integrations, secret_keys

ONE, TWO = Tenant(uid("one"), "One"), Tenant(uid("two"), "Two")
OLD, NEW = new_key("k1"), new_key("k2")
CANARY = "kanarienvogel-7f3a"
SAGA = {
    "connection": {
        "baseUrl": "https://saga.example/",
        "apiKey": CANARY,
        "companyCode": "F1",
    },
    "parse": {"decimal": ","},
}
OBLIO = {
    "connection": {"email": "a@b.example", "secret": CANARY, "cif": "RO123"},
}
REST = {
    "connection": {
        "baseUrl": "https://a.example",
        "authType": "basic",
        "credentials": {"username": "shop", "password": CANARY},
        "endpoints": {"allStock": "stock"},
    },
    "parse": {"field_mapping": {"sku": "sku", "total": "total"}},
}
SAP = {
    "connection": {
        "baseUrl": "https://sap.example:50000",
        "companyDb": "SHOP",
        "userName": "manager",
        "password": CANARY,
    },
}

CONFIGS = {"SAGA": SAGA, "OBLIO": OBLIO, "CUSTOM_API": REST, "SAP_B1": SAP}

Make = Callable[[str | None], Integrations]


@pytest.fixture
async def made(database: str, superuser: asyncpg.Connection) -> AsyncIterator[Make]:
    """Make the integrations of two tenants, with these keys."""
    for tenant in (ONE, TWO):
        await put(superuser, shop("A=10", tenant=tenant))
    async with (
        create_pool(database, "cerniq_app", max_size=4) as app,
        create_pool(database, "cerniq_operator", max_size=1) as operator,
    ):

        def make(keys: str | None = OLD) -> Integrations:
            return Integrations(app, operator, keys=lambda: _keys(keys), policy=Policy())

        yield make


def _keys(text: str | None) -> Keys:
    return read_keys(text)


@pytest.fixture
def integrations(made: Make) -> Integrations:
    return made(OLD)


async def add(integrations: Integrations, tenant: Tenant = ONE, **more):
    given = {"name": "Saga of ours", "config": SAGA} | more
    return await integrations.add(tenant.id, "SAGA", **given)


# -- stored -----------------------------------------------------------------------------------


async def test_what_is_stored_comes_back(integrations):
    view = await add(integrations, options={"createUnknown": True}, schedule=" 5  7 * * 1 ")
    assert (view.erp_system, view.name, view.enabled) == ("SAGA", "Saga of ours", True)
    assert (view.sync_schedule, view.options) == ("5 7 * * 1", {"createUnknown": True})
    assert await integrations.listed(ONE.id) == (view,)
    assert await integrations.listed(TWO.id) == ()
    opened = await integrations.open(str(ONE.id).upper(), "SAGA")
    assert opened.connection.api_key.get_secret_value() == CANARY
    assert opened.parse.decimal == ","
    assert opened.options == SyncOptions(create_unknown=True)
    assert (opened.id, opened.revision, opened.watermark) == (view.id, 1, None)


async def test_one_of_each_system(integrations):
    await add(integrations)
    await add(integrations, TWO)
    with pytest.raises(InvalidInputError, match="already"):
        await add(integrations)


async def test_changes(integrations, superuser):
    await add(integrations)
    await superuser.execute("""UPDATE erp_integrations SET watermark = '{"since": 1}'""")
    view = await integrations.change(ONE.id, "SAGA", name="Other", enabled=False, options={})
    assert (view.name, view.enabled) == ("Other", False)
    opened = await integrations.open(ONE.id, "SAGA")
    assert (opened.watermark, opened.revision, opened.enabled) == ({"since": 1}, 1, False)
    view = await integrations.change(ONE.id, "SAGA", options={"syncPrices": False})
    assert (view.options, view.name) == ({"syncPrices": False}, "Other")
    # what was read until now was read for other options
    opened = await integrations.open(ONE.id, "SAGA")
    assert (opened.watermark, opened.revision) == (None, 2)
    assert (await integrations.schedule(ONE.id, "SAGA", "0 3 * * *")).sync_schedule == "0 3 * * *"
    assert (await integrations.schedule(ONE.id, "SAGA", None)).sync_schedule is None


async def test_another_configuration_is_read_from_its_beginning(integrations, superuser):
    await add(integrations)
    await superuser.execute("""UPDATE erp_integrations SET watermark = '{"since": 1}'""")
    await integrations.change(ONE.id, "SAGA", config=SAGA)
    opened = await integrations.open(ONE.id, "SAGA")
    assert (opened.watermark, opened.revision) == (None, 2)


async def test_whether_there_is_anything_to_fetch_is_known_without_opening_it(
    integrations, superuser
):
    async def pull() -> bool:
        return await superuser.fetchval("SELECT pull FROM erp_integrations")

    files = {"connection": {"folder": "in"}}
    await integrations.add(ONE.id, "CSV_IMPORT", name="Files", config={"connection": {}})
    assert await pull() is False
    await integrations.change(ONE.id, "CSV_IMPORT", name="Other")
    assert await pull() is False
    await integrations.change(ONE.id, "CSV_IMPORT", config=files)
    assert await pull() is True
    await integrations.change(ONE.id, "CSV_IMPORT", config={"connection": {}})
    assert await pull() is False
    await integrations.remove(ONE.id, "CSV_IMPORT")
    await add(integrations)
    assert await pull() is True


async def test_what_is_removed_is_gone(integrations):
    await add(integrations)
    await integrations.remove(ONE.id, "SAGA")
    for asked in (integrations.get, integrations.remove, integrations.open):
        with pytest.raises(NotFoundError, match="No integration with SAGA"):
            await asked(ONE.id, "SAGA")


async def test_a_tenant_that_there_is_not(integrations):
    with pytest.raises(NotFoundError, match="No such tenant"):
        await add(integrations, Tenant(uid("three"), "Three"))


BAD = {
    "config: unknown key colour": {"config": SAGA | {"colour": 1}},
    "config: connection must be": {"config": {"connection": []}},
    "The options are not JSON, line 1": {"options": CANARY},
    "The config is not JSON, line 2": {"config": b'{"a":1,\n"' + CANARY.encode()},
    "The config must be a JSON object": {"config": b"[]"},
    "The config has more than": {"config": b" " * 200_000},
    "Connection of SAGA: apiKey": {"config": {"connection": {"baseUrl": "https://a.example"}}},
    "Connection of SAGA: unknown key colour; there may be": {
        "config": {"connection": SAGA["connection"] | {"colour": CANARY}}
    },
    r"connection.apiKey is \*\*\*": {
        "config": {"connection": SAGA["connection"] | {"apiKey": "***"}}
    },
    "Configuration: unknown key colour": {"config": SAGA | {"parse": {"colour": 1}}},
    "schedule is no cron": {"schedule": "0 0 30 2 *"},
    "schedule has 51 characters": {"schedule": "0," * 22 + "0 0 * * *"[:7]},
    "name must be": {"name": ""},
    "Options: unknown option colour": {"options": {"colour": 1}},
    "Options: create_unknown|unknown option create_unknown": {"options": {"create_unknown": True}},
}


@pytest.mark.parametrize("sentence", BAD)
async def test_what_cannot_be_meant_is_one_sentence(integrations, sentence):
    with pytest.raises(InvalidInputError, match=sentence) as caught:
        await add(integrations, **BAD[sentence])
    assert "\n" not in str(caught.value)
    assert CANARY not in str(caught.value)
    assert await integrations.listed(ONE.id) == ()


async def test_an_unknown_system(integrations):
    with pytest.raises(InvalidInputError, match="system must be one of SAGA"):
        await integrations.add(ONE.id, "ABACUS", name="x", config=SAGA)


async def test_a_mapped_system_needs_its_mapping(integrations):
    config = {"connection": REST["connection"]}
    with pytest.raises(InvalidInputError, match=r"WIZCOUNT needs parse\.field_mapping"):
        await integrations.add(ONE.id, "WIZCOUNT", name="x", config=config)


# -- options ----------------------------------------------------------------------------------


def test_options_and_their_defaults():
    assert read_options(b"{}").wire() == {
        "conflictResolution": "ERP_WINS",
        "createUnknown": False,
        "defaultUnit": "BUC",
        "warehouses": {},
        "defaultWarehouse": None,
        "minRowsShare": 0.5,
        "maxZeroShare": 0.3,
        "useErpAvailable": True,
        "syncPrices": True,
        "syncStatus": True,
        "push": False,
    }
    assert tuple(SyncOptions().wire()) == NAMES
    given = {"conflictResolution": "merge", "warehouses": {" Depozit ": "MAIN"}, "minRowsShare": 0}
    read = read_options(json.dumps(given))
    assert read.conflict_resolution is Strategy.MERGE
    assert read.warehouses == {"Depozit": "MAIN"}
    assert read_options(read.chosen()) == read


@pytest.mark.parametrize(
    "given",
    [
        {"conflictResolution": "MINE"},
        {"createUnknown": "yes"},
        {"push": 1},
        {"minRowsShare": 1.01},
        {"maxZeroShare": -0.01},
        {"maxZeroShare": "0.5"},
        {"minRowsShare": True},
        {"defaultUnit": "OZ"},
        {"warehouses": ["MAIN"]},
        {"warehouses": {"a": ""}},
        {"warehouses": {"a": "x\0"}},
        {"defaultWarehouse": "\ud800"},
        {"warehouses": {str(n): "a" for n in range(501)}},
        '{"minRowsShare": NaN}',
        "[" * 100_000,
    ],
    ids=str,
)
def test_options_that_mean_nothing(given):
    with pytest.raises(InvalidInputError) as caught:
        read_options(given)
    assert "\n" not in str(caught.value)


# -- secrets ----------------------------------------------------------------------------------


async def test_the_canary_is_seen_nowhere(made, superuser, caplog):
    """Neither in the database, nor in views, reprs, errors with all they drag along, or logs."""
    integrations = made(OLD)
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    with caplog.at_level(logging.DEBUG):
        for system, config in CONFIGS.items():
            view = await integrations.add(ONE.id, system, name="x", config=config)
            opened = await integrations.open(ONE.id, system)
            assert CANARY in opened.connection.secrets()
            shown = await integrations.configuration(ONE.id, system)
            told += [repr(view), str(view), wire.dumps(view), repr(opened), str(opened)]
            told += [repr(opened.connection), json.dumps(shown), repr(opened.parse)]
            assert "***" in told[-2]
            (row,) = [x for x in await store.listed(made("")._app, ONE.id) if x.id == view.id]
            told += [repr(row), row.sealed.decode("latin-1")]
            for sentence in await _mistakes(made, system, config):
                told.append(sentence)
        await integrations.rotate_keys()
    loop.set_debug(False)
    told += [caplog.text, *map(repr, caplog.records)]
    told += map(repr, await superuser.fetch("SELECT * FROM erp_integrations"))
    found = await superuser.fetch("SELECT t::text FROM erp_integrations AS t")
    told += [row[0] for row in found]
    assert [text for text in told if CANARY in text] == []
    assert not any(CANARY.encode().hex() in text for text in told)


async def _mistakes(made: Make, system: str, config) -> list[str]:
    """What is said, with every exception that led to it, where secrets stand in wrong places."""
    connection = config["connection"]
    wrong = [{"connection": {**connection, name: [CANARY]}} for name in connection]
    wrong += [{"connection": {**connection, name: {"x": CANARY}}} for name in connection]
    wrong += [{"connection": {**connection, "baseUrl": f"https://u:{CANARY}@a.example/"}}]
    wrong += [{"connection": {**connection, "timeoutS": CANARY}}]
    wrong += [{"connection": connection, "more": CANARY}, {"connection": CANARY}]
    wrong += [{"connection": {**connection, "more": CANARY}}]
    wrong += [{"connection": connection, "parse": {"field_mapping": {"sku": ""}, "x": 1}}]
    texts: list[str | bytes | dict] = [*wrong, json.dumps(config)[:-1], json.dumps([config])]
    said = []
    for given in texts:
        with pytest.raises(InvalidInputError) as caught:
            await made(OLD).change(ONE.id, system, config=given)
        said += _chain(caught.value)
    for keys in (None, NEW, new_key("k1")):
        with pytest.raises(SecretsError) as unopened:
            await made(keys).open(ONE.id, system)
        said += _chain(unopened.value)
    return said


def _chain(error: BaseException | None) -> list[str]:
    said = []
    while error is not None:
        said += [repr(error), str(error), *traceback.format_exception(error)]
        said += [str(vars(error))]
        error = error.__context__ or error.__cause__
    return said


@pytest.mark.parametrize("into", ["another tenant", "another row of the tenant"])
async def test_a_blob_that_was_moved_does_not_open(integrations, superuser, into):
    await add(integrations)
    moved_to = TWO if into == "another tenant" else ONE
    system = "SAGA" if moved_to is TWO else "CUSTOM_API"
    config = SAGA if moved_to is TWO else REST
    await integrations.add(moved_to.id, system, name="x", config=config)
    if moved_to is TWO:  # nothing but the tenant is another one
        await integrations.remove(TWO.id, "SAGA")
        await superuser.execute(
            "INSERT INTO erp_integrations (tenant_id, id, erp_system, name, config_encrypted)"
            " SELECT $1, id, erp_system, name, '' FROM erp_integrations",
            TWO.id,
        )
    await superuser.execute(
        "UPDATE erp_integrations SET config_encrypted = (SELECT config_encrypted"
        " FROM erp_integrations WHERE tenant_id = $1 AND erp_system = 'SAGA')"
        " WHERE tenant_id = $2 AND erp_system = $3",
        *(ONE.id, moved_to.id, system),
    )
    with pytest.raises(SecretsError, match="does not open"):
        await integrations.open(moved_to.id, system)
    assert await integrations.open(ONE.id, "SAGA")


async def test_without_keys_there_is_one_sentence(made):
    for keys in (None, ""):
        with pytest.raises(SecretsError, match="make one with `cerniq-stock erp new-key` and set"):
            await add(made(keys))
    await add(made(OLD))
    without = made(None)
    assert len(await without.listed(ONE.id)) == 1
    assert not (await without.change(ONE.id, "SAGA", enabled=False)).enabled
    with pytest.raises(SecretsError):
        await without.configuration(ONE.id, "SAGA")


# -- keys -------------------------------------------------------------------------------------


async def blobs(superuser) -> list[bytes]:
    rows = await superuser.fetch("SELECT config_encrypted FROM erp_integrations ORDER BY tenant_id")
    return [row[0] for row in rows]


async def test_keys_change_while_all_goes_on(made, superuser):
    for tenant in (ONE, TWO):
        await add(made(OLD), tenant)
    before, both = await blobs(superuser), made(f"{NEW},{OLD}")

    told = await both.rotate_keys(dry_run=True)
    assert (told.kid, told.dry_run, told.rewrapped, told.current) == ("k2", True, 2, 0)
    assert await blobs(superuser) == before

    told = await both.rotate_keys()
    assert (told.rewrapped, told.current, told.missed, told.failed) == (2, 0, 0, ())
    again = await both.rotate_keys()
    assert (again.rewrapped, again.current) == (0, 2)
    for tenant in (ONE, TWO):
        # with the old key taken out, and the revision as it was: nothing else has changed
        opened = await made(NEW).open(tenant.id, "SAGA")
        assert opened.connection.secrets() == [CANARY]
        assert opened.revision == 1
    with pytest.raises(SecretsError, match="under key 'k2', which is not configured"):
        await made(OLD).open(ONE.id, "SAGA")


async def test_a_change_of_keys_goes_on_where_it_was_stopped(made, superuser, monkeypatch):
    monkeypatch.setattr("cerniq_stock.integrations.PAGE", 1)
    for tenant in (ONE, TWO):
        await add(made(OLD), tenant)
    both, swap = made(f"{NEW},{OLD}"), store.swap_sealed

    async def dies(app, row, new):
        if swapped:
            raise asyncio.CancelledError
        swapped.append(await swap(app, row, new))
        return True

    swapped: list[bool] = []
    with monkeypatch.context() as patch:
        patch.setattr(store, "swap_sealed", dies)
        with pytest.raises(asyncio.CancelledError):
            await both.rotate_keys()
    told = await both.rotate_keys()
    assert (told.current, told.rewrapped) == (1, 1)


async def test_what_somebody_changes_meanwhile_is_not_overwritten(made, superuser, monkeypatch):
    await add(made(OLD))
    both, swap = made(f"{NEW},{OLD}"), store.swap_sealed
    other = {**SAGA, "connection": SAGA["connection"] | {"apiKey": "another one"}}

    async def late(app, row, new):
        await made(OLD).change(ONE.id, "SAGA", config=other)
        return await swap(app, row, new)

    with monkeypatch.context() as patch:
        patch.setattr(store, "swap_sealed", late)
        told = await both.rotate_keys()
    assert (told.missed, told.rewrapped) == (1, 0)
    assert (await both.open(ONE.id, "SAGA")).connection.secrets() == ["another one"]
    assert (await both.rotate_keys()).rewrapped == 1


async def test_what_does_not_open_is_named_and_left(made, superuser):
    for tenant in (ONE, TWO):
        await add(made(OLD), tenant)
    await superuser.execute(
        "UPDATE erp_integrations SET config_encrypted = 'damaged' WHERE tenant_id = $1", ONE.id
    )
    told = await made(f"{NEW},{OLD}").rotate_keys()
    assert told.rewrapped == 1
    (failed,) = told.failed
    assert failed.tenant_id == ONE.id
    assert "no sealed secret" in failed.reason


# -- used -------------------------------------------------------------------------------------


async def test_files_of_the_tenant_are_a_session(database, made, tmp_path, monkeypatch):
    (tmp_path / str(ONE.id)).mkdir()
    (tmp_path / str(ONE.id) / "stock.csv").write_bytes(b"Cod;Stoc\nA;1,5\n")
    settings = Settings(secret_keys=OLD, erp_files_dir=tmp_path)
    config = {"connection": {"file": "stock.csv", "settleS": 0}, "parse": {"decimal": ","}}
    async with open_integrations(settings, database) as integrations:
        await integrations.add(ONE.id, "CSV_IMPORT", name="Files", config=config)
        assert (await integrations.test(ONE.id, "CSV_IMPORT")).latency_s > 0
        opened = await integrations.open(ONE.id, "CSV_IMPORT")
        async with integrations.session(opened) as source:
            rows = [row async for page in source.everything() for row in page.rows]
        assert rows[0].total == Decimal("1.5")
        async with integrations.session(opened, upload=b"Cod;Stoc\nB;1\n") as source:
            rows = [row async for page in source.everything() for row in page.rows]
        assert rows[0].sku == "B"


async def test_addresses_are_those_that_the_operator_allows(made):
    """The policy of the installation is that of every session."""
    config = {**SAGA, "connection": SAGA["connection"] | {"baseUrl": "https://127.0.0.1/"}}
    integrations = made(OLD)
    await add(integrations, config=config)
    with pytest.raises(Exception, match="may not be connected to"):
        await integrations.test(ONE.id, "SAGA")


def test_the_settings_are_wired(tmp_path):
    settings = Settings(erp_allowed_hosts="192.168.1.0/24:50000", erp_ports=(443, 8443))
    policy = erp_policy(settings)
    assert policy == Policy.parse("192.168.1.0/24:50000", (443, 8443))
    with pytest.raises(InvalidInputError, match="host:port"):
        erp_policy(Settings(erp_allowed_hosts="nonsense"))
    file = tmp_path / "keys"
    file.write_text(f"{NEW}\n{OLD}\n")
    assert secret_keys(Settings(secret_keys_file=file)).first == "k2"
    assert secret_keys(Settings(secret_keys=OLD)).first == "k1"
    assert OLD not in repr(Settings(secret_keys=OLD))


@pytest.mark.parametrize(
    "options", [{"defaultWarehouse": "NOPE"}, {"warehouses": {"Depozit": "NOPE"}}], ids=str
)
async def test_options_name_warehouses_of_the_tenant(integrations, options):
    with pytest.raises(InvalidInputError, match="no warehouse NOPE here; there are MAIN"):
        await add(integrations, options=options)
    await add(integrations)
    with pytest.raises(InvalidInputError, match="no warehouse NOPE"):
        await integrations.change(ONE.id, "SAGA", options=options)
