"""Which addresses a tenant's configuration may make us connect to.

An ERP's address is chosen by a tenant and used from inside our network. So: https to public
addresses on few ports; what the operator lists besides, and nobody else can. A name is resolved
once, every address of it is checked, and the connection goes to one of those very addresses: a
second answer of the DNS changes nothing. TLS and the Host header keep the name.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import httpcore2
import httpx2

from cerniq_stock.erp.trouble import ForbiddenAddressError
from cerniq_stock.errors import InvalidInputError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]
Kind = Literal["public", "lan", "loopback", "never"]

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_ENTRY = re.compile(r"(\[[0-9a-fA-F:./]+\]|[^:\[\]]+):([0-9]{1,5})")
# what reads as a number to somebody's parser: 2130706433, 0x7f.1, 127.1
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST_URL = 8192
_ADDRESSES_TRIED = 4
ALLOWED_HOSTS, PORTS = "CERNIQ_ERP_ALLOWED_HOSTS", "CERNIQ_ERP_PORTS"
"""The operator's settings, as sentences name them."""


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


_LAN = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
# Not even for an operator who lists a network around them: metadata and control services of
# clouds, link-local, multicast, what is reserved, and IPv6 that carries an IPv4 address inside.
_NEVER = _networks(
    "0.0.0.0/8",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.88.99.0/24",
    "224.0.0.0/3",
    "64:ff9b:1::/48",
    "2001::/23",
    "2002::/16",
    "3fff::/20",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
)
_LOOPBACK = _networks("127.0.0.0/8", "::1/128")
_KINDS: tuple[tuple[Kind, tuple[Network, ...]], ...] = (
    ("never", _NEVER),
    ("loopback", _LOOPBACK),
    ("lan", _LAN),
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart once; `rest` is path and query."""

    scheme: str
    host: str
    port: int
    rest: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return self.scheme, self.host, self.port

    @property
    def url(self) -> str:
        """The URL in the one form that is used from here on."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == {"http": 80, "https": 443}[self.scheme]
        return f"{self.scheme}://{host}{'' if usual else f':{self.port}'}{self.rest or '/'}"


def parse_url(url: str) -> Target:
    """Take a URL apart; whatever two parsers could read in two ways is refused."""
    if len(url) > _LONGEST_URL or re.search(r"[\x00-\x1f\x7f\\]", url):
        raise ForbiddenAddressError("the URL is too long or has characters that no URL has")
    match = _URL.fullmatch(url)
    if not match:
        raise ForbiddenAddressError("the URL must begin with https://")
    scheme, authority, rest = match[1].lower(), match[2], match[3]
    if "@" in authority:
        raise ForbiddenAddressError("the URL must not carry a user name or password")
    parts = _AUTHORITY.fullmatch(authority)
    port = int(parts[2] or (443 if scheme == "https" else 80)) if parts else 0
    if not parts or not 0 < port < 65536:
        raise ForbiddenAddressError("the URL has no host, or a host or port that cannot be")
    # a next link may be unescaped; what is escaped stays as it is
    rest = quote(rest, safe="/?%:@!$&'()*+,;=-._~[]|")
    return Target(scheme, _host(parts[1]), port, rest)


def _host(text: str) -> str:
    """Return the host in its only form: a plain name in ASCII, or an address."""
    try:
        if text.startswith("["):
            return ipaddress.IPv6Address(text[1:-1]).compressed
        labels = text.lower().split(".")
        if _NUMERIC.fullmatch(labels[-1]):
            return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ForbiddenAddressError("the host is no address in its plain form") from None
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ForbiddenAddressError("the host is no name in its plain form")
    return text.lower()


def kind_of(address: Address) -> Kind:
    """Tell where an address lies; what is not known to be harmless is `never`."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return kind_of(address.ipv4_mapped)
        if address in _NAT64:
            return "public" if kind_of(_low_v4(address)) == "public" else "never"
        if address.scope_id:
            return "never"
    for kind, networks in _KINDS:
        if any(address in network for network in networks):
            return kind
    if isinstance(address, ipaddress.IPv6Address):
        isatap = (int(address) >> 32) & 0xFDFFFFFF == 0x00005EFE
        if address not in _GLOBAL_UNICAST or (isatap and kind_of(_low_v4(address)) != "public"):
            return "never"
    return "public" if address.is_global and not address.is_multicast else "never"


def _low_v4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows: https on `ports` of public addresses, and what is listed."""

    ports: frozenset[int] = frozenset({443})
    networks: tuple[tuple[Network, int], ...] = ()
    names: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def parse(cls, listed: str, ports: Iterable[int] = (443,)) -> "Policy":
        """Read a list such as `192.168.1.0/24:50000, [fd00::/64]:443, erp.lan:8080`."""
        networks: list[tuple[Network, int]] = []
        names: set[tuple[str, int]] = set()
        for entry in re.split(r"[,\s]+", listed.strip()) if listed.strip() else []:
            try:
                host, port = _host_and_port(entry)
                if "/" in host or re.fullmatch(r"[0-9.]+|.*:.*", host):
                    networks.append((ipaddress.ip_network(host), port))
                else:
                    names.add((_host(host), port))
            except (ValueError, ForbiddenAddressError):
                raise InvalidInputError(
                    ALLOWED_HOSTS,
                    f"{ALLOWED_HOSTS}: {entry!r} is not host:port or network:port,"
                    " such as erp.lan:8080 or 192.168.1.0/24:50000",
                ) from None
        return cls(frozenset(ports), tuple(networks), frozenset(names))

    def permits(self, scheme: str, host: str, port: int, address: Address) -> bool:
        """Tell whether `host`, which resolved to `address` among others, may be connected to."""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        kind = kind_of(address)
        if kind == "never":
            return False
        for network, listed_port in self.networks:
            # a network drawn too wide does not open this machine itself
            close = kind != "loopback" or network.is_loopback
            if listed_port == port and address in network and close:
                return True
        if (host, port) in self.names:
            return kind in {"public", "lan"}
        return scheme == "https" and port in self.ports and kind == "public"


def _host_and_port(entry: str) -> tuple[str, int]:
    match = _ENTRY.fullmatch(entry)
    if not match or not 0 < int(match[2]) < 65536:
        raise ValueError(entry)
    return match[1].strip("[]"), int(match[2])


def check(policy: Policy, target: Target, addresses: Sequence[Address]) -> None:
    """Refuse unless every address is permitted: one of them is as good as connected to."""
    permitted = (policy.permits(*target.origin, address) for address in addresses)
    if not addresses or not all(permitted):
        raise ForbiddenAddressError(
            f"this address may not be connected to; {_advice(policy, target)}"
        )


def _advice(policy: Policy, target: Target) -> str:
    """Say which setting decides, from the URL alone: where a name leads to inside is not told."""
    listed = f"as host:port in {ALLOWED_HOSTS}"
    if target.scheme == "https" and target.port not in policy.ports:
        return f"the operator can allow its port in {PORTS} for public addresses, or it {listed}"
    return f"the operator can allow it {listed}"


async def system_resolver(host: str, port: int) -> Sequence[Address]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))


class _PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections to addresses that it resolved and checked itself."""

    def __init__(self, policy: Policy, scheme: str, resolver: Resolver) -> None:
        self._policy = policy
        self._scheme = scheme
        self._resolver = resolver
        self._dial = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore2
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve once, check all, connect to the first that answers."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from None
        except (OSError, ValueError):
            raise httpcore2.ConnectError("the name cannot be resolved") from None
        check(self._policy, Target(self._scheme, host, port, ""), addresses)
        tried = addresses[:_ADDRESSES_TRIED]
        share = timeout / len(tried) if timeout else None
        for address in tried[:-1]:
            try:
                return await self._dial.connect_tcp(str(address), port, share, local_address)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._dial.connect_tcp(str(tried[-1]), port, share, local_address)

    async def _resolve(self, host: str, port: int) -> Sequence[Address]:
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            return await self._resolver(host, port)


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with aclosing(self._response.aiter_stream()) as parts:
            async for part in parts:
                yield part

    async def aclose(self) -> None:
        await self._response.aclose()


class GuardedTransport(httpx2.AsyncBaseTransport):
    """A transport of httpx2 that connects where the policy permits and nowhere else.

    It has no proxies; give the client `trust_env=False`, or that one brings the environment's.
    Troubles of the network come as exceptions of httpcore2.
    """

    def __init__(
        self,
        policy: Policy,
        tls: ssl.SSLContext | None = None,
        *,
        resolver: Resolver = system_resolver,
        connections: int = 4,
    ) -> None:
        self._pools = {
            scheme: httpcore2.AsyncConnectionPool(
                ssl_context=tls,
                max_connections=connections,
                keepalive_expiry=30.0,
                network_backend=_PinnedBackend(policy, scheme, resolver),
            )
            for scheme in ("http", "https")
        }

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; a URL or Host header of two meanings is refused."""
        target = parse_url(str(request.url))
        names = {target.host, request.url.raw_host.decode()}
        if len(names) > 1 or httpx2.URL(target.url).netloc.decode() != request.headers["host"]:
            raise ForbiddenAddressError("the host of the request is ambiguous")
        response = await self._pools[target.scheme].handle_async_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(
                    scheme=target.scheme,
                    host=target.host,
                    port=target.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions={"timeout": request.extensions.get("timeout", {})},
            )
        )
        return httpx2.Response(response.status, headers=response.headers, stream=_Body(response))

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()
