"""Subscriptions from the first handshake to a renewal by the schedule, and what got lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import asyncpg
import pytest

from cerniq_stock.erp.fakes.base import FakeServer, Reply
from cerniq_stock.erp.fakes.microsoft_bc import FakeMicrosoftBc, deliver
from cerniq_stock.erp.fakes.oblio import FakeOblio
from cerniq_stock.erp.guard import Policy
from cerniq_stock.erp.rows import SystemName
from cerniq_stock.erp.secrets import SecretsError, new_key, read_keys
from cerniq_stock.erp.trouble import RefusedError, UnauthorizedError
from cerniq_stock.erp.webhooks import answer, job
from cerniq_stock.errors import InvalidInputError, NotFoundError
from cerniq_stock.integrations import Integrations
from cerniq_stock.jobs.metrics import Metrics
from cerniq_stock.jobs.pg_queue import PostgresQueue
from cerniq_stock.jobs.pg_worker import Worker
from cerniq_stock.jobs.port import NewJob
from cerniq_stock.jobs.rates import Rates
from cerniq_stock.jobs.schedule import Scheduler
from cerniq_stock.store.database import create_pool
from cerniq_stock.sync.result import Asked, SyncType
from cerniq_stock.sync.subscriptions import endpoint
from cerniq_stock.sync.syncs import Syncs

PLATFORM = "https://platform.example"
HOOK = f"{PLATFORM}/hooks/7f3a-canary"
OLD, NEW = new_key("k1"), new_key("k2")


class Receiver(FakeServer):
    """What a platform has where ERPs call it, made of what is offered for that."""

    system = SystemName.MICROSOFT_BC
    right = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.jobs: list = []

    async def answer(self, request):
        told = answer(self.system, request.query, request.headers)
        if told is not None and not self.right:
            return Reply(b"no", 200)
        if told is None or self.system is SystemName.OBLIO:
            self.jobs.append(job(self.system, self.tenant, request.body))
        return Reply(None, 202) if told is None else Reply(told[1].encode(), 200)


@pytest.fixture
async def world(shop) -> AsyncIterator[SimpleNamespace]:
    """The shop, a Business Central, an Oblio, and a platform that both can call."""
    async with Receiver() as receiver:
        receiver.tenant = shop.tenant

        async def call(method, url, body):
            assert url.startswith("https://")
            return await deliver(method, url.replace(PLATFORM, receiver.url), body)

        async with (
            FakeMicrosoftBc(call=call) as bc,
            FakeOblio(routes={PLATFORM: receiver.url}) as oblio,
            create_pool(shop.stock.dsn, "cerniq_app", max_size=4) as app,
            create_pool(shop.stock.dsn, "cerniq_operator", max_size=4) as operator,
        ):
            made = SimpleNamespace(
                shop=shop, bc=bc, oblio=oblio, receiver=receiver, app=app, operator=operator
            )
            made.policy = Policy.parse(f"127.0.0.1:{bc.port} 127.0.0.1:{oblio.port}")
            made.keys = OLD
            made.integrations = Integrations(
                app, operator, keys=lambda: read_keys(made.keys), policy=made.policy
            )
            made.syncs = Syncs(shop.stock.dsn, app, made.integrations)
            made.subscriptions = made.syncs.subscriptions
            for fake, system in ((bc, "MICROSOFT_BC"), (oblio, "OBLIO")):
                config = {"connection": fake.settings()}
                await made.integrations.add(shop.tenant, system, name=system, config=config)
            yield made


@asynccontextmanager
async def told_of(world, system):
    """The receiver expects the calls of this system."""
    world.receiver.system = SystemName(system)
    yield world.subscriptions


async def kept(world):
    rows = await world.operator.fetch("SELECT * FROM cerniq.erp_subscriptions")
    return [dict(row) for row in rows]


def there(world, system):
    """What the ERP has, as id and address."""
    if system == "OBLIO":
        return {id_: hook["endpoint"] for id_, hook in world.oblio.webhooks.items()}
    return {id_: one["notificationUrl"] for id_, one in world.bc.subscriptions.items()}


def forget(world, system):
    """The ERP has lost it."""
    world.oblio.webhooks.clear() if system == "OBLIO" else world.bc.subscriptions.clear()


BOTH = pytest.mark.parametrize("system", ["MICROSOFT_BC", "OBLIO"])


@BOTH
async def test_subscribed_again_and_ended(world, system):
    async with told_of(world, system) as subscriptions:
        view = await subscriptions.subscribe(world.shop.tenant, system, HOOK)
        assert there(world, system) == {view.subscription_id: HOOK}
        assert view.host == "platform.example"
        again = await subscriptions.subscribe(world.shop.tenant, system, HOOK)
        assert (again.subscription_id, len(there(world, system))) == (view.subscription_id, 1)
        await subscriptions.unsubscribe(world.shop.tenant, system)
        assert (there(world, system), await kept(world)) == ({}, [])
        with pytest.raises(NotFoundError, match="no subscription"):
            await subscriptions.unsubscribe(world.shop.tenant, system)


@BOTH
async def test_what_is_gone_there_can_be_ended_here(world, system):
    async with told_of(world, system) as subscriptions:
        await subscriptions.subscribe(world.shop.tenant, system, HOOK)
        forget(world, system)
        await subscriptions.unsubscribe(world.shop.tenant, system)
        assert await kept(world) == []


@BOTH
async def test_another_address_takes_the_place_of_the_first(world, system):
    async with told_of(world, system) as subscriptions:
        await subscriptions.subscribe(world.shop.tenant, system, HOOK)
        view = await subscriptions.subscribe(world.shop.tenant, system, f"{HOOK}-2")
        assert there(world, system) == {view.subscription_id: f"{HOOK}-2"}


async def test_that_of_business_central_is_renewed_at_its_half(world):
    async with told_of(world, "MICROSOFT_BC") as subscriptions:
        view = await subscriptions.subscribe(world.shop.tenant, "MICROSOFT_BC", HOOK)
        now = datetime.now(UTC)
        assert abs(view.expires_at - now - timedelta(days=3)) < timedelta(minutes=1)
        assert abs(view.renew_at - now - timedelta(days=1.5)) < timedelta(minutes=1)
        world.bc.subscriptions[view.subscription_id]["until"] -= 86_400
        renewed = await subscriptions.renew(world.shop.tenant, "MICROSOFT_BC")
        assert abs(renewed.expires_at - now - timedelta(days=3)) < timedelta(minutes=1)
        assert (renewed.made_anew, renewed.made_at) == (False, view.made_at)
        assert len(world.receiver.requests) == 2


@BOTH
async def test_one_that_is_gone_is_made_anew_and_everything_is_read(world, system):
    async with told_of(world, system) as subscriptions:
        tenant = world.shop.tenant
        world.bc.item("A")
        world.bc.received("A", "5")
        world.oblio.received("A", "5")
        options = {"defaultWarehouse": "MAIN", "warehouses": {"Sediu|01": "MAIN"}}
        await world.integrations.change(tenant, system, options=options)
        await world.syncs.run(tenant, system, Asked(kind=SyncType.FULL))
        view = await subscriptions.subscribe(tenant, system, HOOK)
        before = await world.integrations.open(tenant, system)
        renewed = await subscriptions.renew(tenant, system)
        same = await world.integrations.open(tenant, system)
        assert (same.watermark, same.revision) == (before.watermark, before.revision)
        forget(world, system)
        renewed = await subscriptions.renew(tenant, system)
        assert renewed.made_anew
        assert renewed.subscription_id != view.subscription_id
        assert there(world, system) == {renewed.subscription_id: HOOK}
        opened = await world.integrations.open(tenant, system)
        assert (opened.watermark, opened.revision) == (None, before.revision + 1)


@BOTH
async def test_whoever_does_not_shake_hands_gets_none(world, system):
    async with told_of(world, system) as subscriptions:
        world.receiver.right = False
        with pytest.raises(RefusedError, match="does not answer its handshake"):
            await subscriptions.subscribe(world.shop.tenant, system, HOOK)
        assert (there(world, system), await kept(world)) == ({}, [])


async def test_notifications_are_jobs_of_their_own(world):
    async with told_of(world, "MICROSOFT_BC") as subscriptions:
        world.bc.item("A")
        await subscriptions.subscribe(world.shop.tenant, "MICROSOFT_BC", HOOK)
        world.bc.edited("A", unitPrice="12.50")
        await world.bc.notify()
        assert world.bc.deliveries == [202]
        ((name, payload),) = world.receiver.jobs
        assert (name, payload["syncType"]) == ("stock:sync:erp", "WEBHOOK")
    async with told_of(world, "OBLIO") as subscriptions:
        await subscriptions.subscribe(world.shop.tenant, "OBLIO", HOOK)
        world.receiver.jobs.clear()
        assert await world.oblio.announce() == [True]
        ((name, payload),) = world.receiver.jobs
        assert (name, payload["syncType"]) == ("stock:sync:oblio", "FULL")


async def test_who_has_no_client_state_is_told_which_setting_is_missing(world):
    settings = {**world.bc.settings()}
    settings = {key: value for key, value in settings.items() if "tate" not in key}
    config = {"connection": settings}
    await world.integrations.change(world.shop.tenant, "MICROSOFT_BC", config=config)
    with pytest.raises(InvalidInputError, match="client_state"):
        await world.subscriptions.subscribe(world.shop.tenant, "MICROSOFT_BC", HOOK)


async def test_who_unsubscribes_while_it_is_renewed_stays_unsubscribed(world):
    async with told_of(world, "MICROSOFT_BC") as subscriptions:
        tenant, begun, go_on = world.shop.tenant, asyncio.Event(), asyncio.Event()
        await subscriptions.subscribe(tenant, "MICROSOFT_BC", HOOK)
        call = world.bc.call

        async def slow(*given):
            begun.set()
            await go_on.wait()
            return await call(*given)

        world.bc.call = slow
        renewing = asyncio.create_task(subscriptions.renew(tenant, "MICROSOFT_BC"))
        await begun.wait()
        await _drop(world)
        go_on.set()
        with pytest.raises(NotFoundError):
            await renewing
        assert (there(world, "MICROSOFT_BC"), await kept(world)) == ({}, [])


async def _drop(world):
    async with world.app.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT set_config('app.tenant', $1, true)", str(world.shop.tenant)
        )
        await connection.execute("DELETE FROM cerniq.erp_subscriptions")


# -- where it lies ------------------------------------------------------------------------------


async def test_the_address_lies_sealed_and_keys_change(world):
    async with told_of(world, "OBLIO") as subscriptions:
        await subscriptions.subscribe(world.shop.tenant, "OBLIO", HOOK)
        ((row),) = await kept(world)
        assert b"canary" not in row["url_encrypted"]
        assert "canary" not in repr(await subscriptions.get(world.shop.tenant, "OBLIO"))
        world.keys = f"{NEW},{OLD}"
        assert (await world.integrations.rotate_keys(dry_run=True)).rewrapped == 3
        assert (await world.integrations.rotate_keys()).rewrapped == 3
        world.keys = NEW
        assert (await world.integrations.rotate_keys()).current == 3
        assert (await subscriptions.renew(world.shop.tenant, "OBLIO")).host == "platform.example"
        world.keys = OLD
        with pytest.raises(SecretsError):
            await subscriptions.get(world.shop.tenant, "OBLIO")


async def test_what_is_sealed_for_one_integration_opens_for_no_other(world):
    async with told_of(world, "OBLIO") as subscriptions:
        await subscriptions.subscribe(world.shop.tenant, "OBLIO", HOOK)
    other = await world.integrations.get(world.shop.tenant, "MICROSOFT_BC")
    ((row),) = await kept(world)
    with pytest.raises(SecretsError):
        world.integrations.unseal_url(world.shop.tenant, other.id, row["url_encrypted"])


async def test_it_goes_with_its_integration(world):
    async with told_of(world, "OBLIO") as subscriptions:
        await subscriptions.subscribe(world.shop.tenant, "OBLIO", HOOK)
    await world.integrations.remove(world.shop.tenant, "OBLIO")
    assert await kept(world) == []


# -- by the schedule ----------------------------------------------------------------------------


async def test_only_what_is_due_of_enabled_integrations_is_renewed(world, superuser):
    for system in ("MICROSOFT_BC", "OBLIO"):
        async with told_of(world, system) as subscriptions:
            await subscriptions.subscribe(world.shop.tenant, system, HOOK)
    queue = PostgresQueue(world.app)
    scheduler = Scheduler(world.operator, queue)
    at = datetime(2026, 11, 21, 10, 7, tzinfo=UTC)
    assert await scheduler.fan_out("renew-subscriptions", at) == 0
    await due(superuser)
    await world.integrations.change(world.shop.tenant, "OBLIO", enabled=False)
    assert await scheduler.fan_out("renew-subscriptions", at) == 1
    assert await scheduler.fan_out("renew-subscriptions", at) == 0
    (found,) = await queue.jobs(world.shop.tenant)
    assert (found.name, found.payload["erpSystem"]) == (
        "stock:subscriptions:renew",
        "MICROSOFT_BC",
    )
    await world.integrations.change(world.shop.tenant, "OBLIO", enabled=True)
    assert await scheduler.fan_out("renew-subscriptions", at + timedelta(hours=1)) == 2


async def test_one_that_could_not_be_renewed_stays_due(world, superuser):
    async with told_of(world, "OBLIO") as subscriptions:
        await subscriptions.subscribe(world.shop.tenant, "OBLIO", HOOK)
        await due(superuser)
        world.oblio.secret = "another"
        with pytest.raises(UnauthorizedError):
            await subscriptions.renew(world.shop.tenant, "OBLIO")
        ((row),) = await kept(world)
        assert row["renew_at"] < datetime.now(UTC)


async def test_a_worker_renews_it(world, superuser):
    async with told_of(world, "OBLIO") as subscriptions:
        view = await subscriptions.subscribe(world.shop.tenant, "OBLIO", HOOK)
        queue = PostgresQueue(world.app)
        scheduler, rates = Scheduler(world.operator, queue), Rates(world.operator, {}, {})
        about = scheduler.fan_out, rates, Metrics()
        worker = Worker(world.operator, world.shop.stock, world.syncs, *about)
        task = asyncio.create_task(worker.run())
        name = "stock:subscriptions:renew"
        whose = [{"tenantId": str(world.shop.tenant), "erpSystem": x} for x in ("OBLIO", "SAP_B1")]
        ids = await queue.add(
            world.shop.tenant, [NewJob(name=name, payload=payload) for payload in whose]
        )
        async with asyncio.timeout(60):
            while any(not job.finished_at for job in await queue.jobs(world.shop.tenant)):  # noqa: ASYNC110 - it is there, and nobody tells
                await asyncio.sleep(0.02)
        worker.stop()
        await task
        done, failed = [await queue.get(world.shop.tenant, id_) for id_ in ids]
        assert done.result["subscriptionId"] == view.subscription_id
        assert (done.result["madeAnew"], done.result["host"]) == (False, "platform.example")
        assert "NOT_CONFIGURED" in failed.error


async def due(superuser: asyncpg.Connection) -> None:
    await superuser.execute(
        "UPDATE cerniq.erp_subscriptions SET renew_at = now() - interval '1 minute'"
    )


# -- what cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://platform.example/hook",
        "ftp://platform.example",
        "https://",
        "https:///hook",
        "https://user:secret@platform.example/hook",
        "https://platform.example/hook#part",
        "https://platform.example:x/hook",
        "https://platform.example:0/hook",
        "https://plat form.example/hook",
        "https://platform.example/a\nb",
        "https://platformă.example/hook",
        "https://platform.example/" + "x" * 1000,
        "https://[::1/hook",
        " https://platform.example/hook",
    ],
)
def test_addresses_that_no_erp_should_call(url):
    with pytest.raises(InvalidInputError) as told:
        endpoint(url)
    assert told.value.field == "url"
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("system", ["SAGA", "CSV_IMPORT"])
async def test_systems_that_are_told_elsewhere(world, system):
    connection = {"baseUrl": "https://saga.example", "apiKey": "k", "companyCode": "F1"}
    config = {"connection": connection} if system == "SAGA" else {}
    if system == "SAGA":
        await world.integrations.remove(world.shop.tenant, "SAGA")
    await world.integrations.add(world.shop.tenant, system, name=system, config=config)
    with pytest.raises(InvalidInputError, match="at the ERP itself"):
        await world.subscriptions.subscribe(world.shop.tenant, system, HOOK)
