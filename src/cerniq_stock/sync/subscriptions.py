"""Subscriptions: ERPs that tell of changes by themselves, for as long as somebody renews it.

The address is given by whoever receives what they tell; nothing here calls it. It is stored sealed,
as some systems are known by nothing but a secret in it.
"""

from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from cerniq_stock.erp.subscriptions import Kept, check_system, end, keep
from cerniq_stock.errors import InvalidInputError, NotFoundError
from cerniq_stock.integrations import Integrations, Opened
from cerniq_stock.store import integrations as store
from cerniq_stock.store.integrations import Subscription
from cerniq_stock.views import SubscriptionView

MAX_URL = 1000


class Subscriptions:
    """`app` is a pool that acts as cerniq_app."""

    def __init__(self, app: asyncpg.Pool, integrations: Integrations) -> None:
        self._app = app
        self._integrations = integrations

    async def subscribe(self, tenant_id: UUID, system: str, url: str) -> SubscriptionView:
        """Let an ERP tell changes to `url`, and no longer to another one.

        `url` must answer the handshake while this runs. Raises InvalidInputError, NotFoundError,
        SecretsError, ErpError.
        """
        checked = endpoint(url)
        opened = await self._open(tenant_id, system)
        before = await store.subscription(self._app, opened.tenant_id, opened.id)
        # whatever cannot be sealed is not made either
        sealed = self._integrations.seal_url(opened.tenant_id, opened.id, checked)
        async with self._integrations.session(opened) as source:
            kept = await keep(source, checked)
            await store.keep_subscription(
                *(self._app, opened.tenant_id, opened.id, kept.id, sealed),
                *(kept.renew_at, kept.expires_at),
            )
            if before is not None and before.id != kept.id:
                await end(source, before.id)
        return await self.get(tenant_id, system)

    async def unsubscribe(self, tenant_id: UUID, system: str) -> None:
        """Let an ERP tell nothing any more. Raises NotFoundError, ErpError."""
        opened = await self._open(tenant_id, system)
        there = await self._there(opened)
        async with self._integrations.session(opened) as source:
            await end(source, there.id)
        await store.drop_subscription(self._app, opened.tenant_id, opened.id)

    async def renew(self, tenant_id: UUID, system: str) -> SubscriptionView:
        """Let it live on. One that is gone is made anew, and the next sync reads everything.

        Raises NotFoundError, SecretsError, ErpError.
        """
        opened = await self._open(tenant_id, system)
        there = await self._there(opened)
        url = self._integrations.unseal_url(opened.tenant_id, opened.id, there.sealed)
        async with self._integrations.session(opened) as source:
            kept = await keep(source, url)
            if not await self._renewed(opened, there, kept):
                # somebody has unsubscribed meanwhile, or subscribed elsewhere
                await end(source, kept.id)
                raise _none(opened)
        return await self.get(tenant_id, system, made_anew=kept.id != there.id)

    async def get(
        self, tenant_id: UUID, system: str, *, made_anew: bool = False
    ) -> SubscriptionView:
        """Look one up. Raises NotFoundError, SecretsError."""
        opened = await self._integrations.open(tenant_id, system)
        there = await self._there(opened)
        url = self._integrations.unseal_url(opened.tenant_id, opened.id, there.sealed)
        return SubscriptionView(
            opened.system.value,
            there.id,
            urlsplit(url).hostname or "",
            there.made_at,
            there.renewed_at,
            there.renew_at,
            there.expires_at,
            made_anew,
        )

    async def _open(self, tenant_id: UUID, system: str) -> Opened:
        opened = await self._integrations.open(tenant_id, system)
        check_system(opened.system)
        return opened

    async def _there(self, opened: Opened) -> Subscription:
        found = await store.subscription(self._app, opened.tenant_id, opened.id)
        if found is None:
            raise _none(opened)
        return found

    async def _renewed(self, opened: Opened, there: Subscription, kept: Kept) -> bool:
        return await store.renew_subscription(
            *(self._app, opened.tenant_id, opened.id, there.id),
            *(kept.id, kept.renew_at, kept.expires_at),
        )


def endpoint(url: str) -> str:
    """Check an address that an ERP is to call. Raises InvalidInputError, without the address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        usable = parts.port != 0 and not (parts.username or parts.password or parts.fragment)
    except ValueError:
        usable, host, parts = False, "", urlsplit("")
    plain = url.isascii() and url.isprintable() and not set(url) & set(' "<>\\^`{|}')
    if not usable or not host or not plain or parts.scheme != "https" or len(url) > MAX_URL:
        raise InvalidInputError(
            "url",
            f"The url must be https://…, in at most {MAX_URL:,} plain characters,"
            " without a user and without a #",
        )
    return url


def _none(opened: Opened) -> NotFoundError:
    return NotFoundError(f"{opened.system} has no subscription; make one: erp subscribe --url")
