"""The guard: nothing inside our network is reached unless the operator listed it."""

import ipaddress
import ssl
from ipaddress import IPv4Address, IPv6Address

import httpcore2
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock.erp.guard import (
    GuardedTransport,
    Policy,
    check,
    kind_of,
    parse_url,
    system_resolver,
)
from cerniq_stock.erp.trouble import ForbiddenAddressError
from cerniq_stock.errors import InvalidInputError
from tests.erp.http_server import Server, make_tls

NOBODY = Policy()
PUBLIC = ipaddress.ip_address("93.184.215.14")

INSIDE = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1"),
    *("127.255.0.1", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
    *("192.0.0.9", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::7f00:1", "::808:808", "::ffff:127.0.0.1", "::ffff:0:7f00:1", "100::1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2001::1", "2001:db8::1"),
    *("2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254"),
    *("fe80::1", "fe80::1%eth0", "2a00::1%eth0", "fec0::1", "ff02::1", "ff0e::1"),
    *("2a00::5efe:a00:1", "2a00::200:5efe:c0a8:1"),
]
OUTSIDE = ["8.8.8.8", "93.184.215.14", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2a00:1450::1"]
OUTSIDE += ["2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "2a00::5efe:808:808"]


@pytest.mark.parametrize("text", INSIDE)
def test_what_lies_inside_is_refused(text):
    address = ipaddress.ip_address(text)
    assert not NOBODY.permits("https", "erp.example", 443, address)


@pytest.mark.parametrize("text", OUTSIDE)
def test_what_lies_outside_is_permitted(text):
    address = ipaddress.ip_address(text)
    assert NOBODY.permits("https", "erp.example", 443, address)
    assert not NOBODY.permits("http", "erp.example", 443, address)
    assert not NOBODY.permits("https", "erp.example", 22, address)


FORMS = {
    "mapped": lambda v4: (0xFFFF << 32) | v4,
    "compatible": lambda v4: v4,
    "translated": lambda v4: (0xFFFF << 48) | v4,
    "nat64": lambda v4: (0x64FF9B << 96) | v4,
    "nat64 of a site": lambda v4: (0x64FF9B0001 << 80) | v4,
    "6to4": lambda v4: (0x2002 << 112) | (v4 << 80) | 1,
    "teredo server": lambda v4: (0x20010000 << 96) | (v4 << 64),
    "teredo client": lambda v4: (0x20010000 << 96) | (v4 ^ 0xFFFFFFFF),
    "isatap": lambda v4: (0x2A00 << 112) | (0x5EFE << 32) | v4,
}
PRIVATE = ["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"]
PRIVATE += ["172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4"]
private_v4 = st.sampled_from(PRIVATE).flatmap(lambda text: st.ip_addresses(v=4, network=text))


@given(private_v4, st.sampled_from(sorted(FORMS)))
def test_an_address_that_carries_a_private_one_is_refused(v4, form):
    assert not NOBODY.permits("https", "erp.example", 443, v4)
    carrier = IPv6Address(FORMS[form](int(v4)))
    assert not NOBODY.permits("https", "erp.example", 443, carrier), carrier


@given(st.ip_addresses())
def test_nothing_is_public_that_the_registry_calls_private(address):
    embedded = isinstance(address, IPv6Address) and address in ipaddress.ip_network("64:ff9b::/96")
    if kind_of(address) == "public" and not embedded:
        assert address.is_global
        assert not address.is_private
        assert not address.is_multicast
    if isinstance(address, IPv4Address):
        mapped = IPv6Address(FORMS["mapped"](int(address)))
        assert kind_of(mapped) == kind_of(address)


def test_the_operators_list_opens_what_it_names_and_no_more():
    policy = Policy.parse("192.168.1.0/24:50000, erp.lan:8080 [fd00::/64]:443\n127.0.0.1:9", {443})

    def permitted(scheme, host, port, address):
        return policy.permits(scheme, host, port, ipaddress.ip_address(address))

    assert permitted("http", "sap.customer", 50000, "192.168.1.7")
    assert permitted("https", "192.168.1.7", 50000, "::ffff:192.168.1.7")
    assert not permitted("https", "192.168.1.7", 50001, "192.168.1.7")
    assert not permitted("https", "192.168.2.7", 50000, "192.168.2.7")
    assert permitted("https", "x", 443, "fd00::5")
    assert not permitted("https", "x", 443, "fd00:0:0:1::5")
    assert permitted("http", "erp.lan", 8080, "10.1.2.3")
    assert not permitted("http", "other.lan", 8080, "10.1.2.3")
    assert not permitted("http", "erp.lan", 80, "10.1.2.3")
    # whoever serves the name cannot point it at this machine or at the cloud's metadata
    assert not permitted("http", "erp.lan", 8080, "127.0.0.1")
    assert not permitted("http", "erp.lan", 8080, "169.254.169.254")
    assert permitted("http", "localhost", 9, "127.0.0.1")


def test_a_network_drawn_too_wide_opens_neither_this_machine_nor_metadata():
    policy = Policy.parse("0.0.0.0/0:80,[::/0]:80")
    for text in ("127.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "224.0.0.1", "fe80::1"):
        assert not policy.permits("http", "x", 80, ipaddress.ip_address(text))
    assert policy.permits("http", "x", 80, ipaddress.ip_address("192.168.1.1"))


@pytest.mark.parametrize(
    "entry",
    [
        *("erp.lan", "erp.lan:0", "erp.lan:99999", "192.168.1.1/24:80", "fd00::1:80", "a b:c"),
        *("0x7f:80", "http://erp.lan:80", "2130706433:80", "*:443", "[erp.lan]:80"),
    ],
)
def test_a_list_that_cannot_be_is_refused_at_the_start(entry):
    with pytest.raises(
        InvalidInputError, match=r"is not host:port.* such as erp\.lan:8080"
    ) as told:
        Policy.parse(entry)
    assert str(told.value).startswith("CERNIQ_ERP_ALLOWED_HOSTS: ")


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("http://erp.lan:8080", ["allow it as host:port in CERNIQ_ERP_ALLOWED_HOSTS"]),
        ("https://erp.lan", ["allow it as host:port in CERNIQ_ERP_ALLOWED_HOSTS"]),
        (
            "https://erp.lan:50000",
            ["its port in CERNIQ_ERP_PORTS", "as host:port in CERNIQ_ERP_ALL"],
        ),
    ],
)
def test_what_is_refused_names_the_setting_and_not_where_the_name_leads(url, settings):
    told = set()
    for address in ("10.0.0.1", "127.0.0.1", "169.254.169.254"):
        with pytest.raises(ForbiddenAddressError) as error:
            check(Policy(), parse_url(url), [ipaddress.ip_address(address)])
        told.add(str(error.value))
    (sentence,) = told
    for setting in settings:
        assert setting in sentence


@pytest.mark.parametrize(
    ("url", "host", "port", "canonical"),
    [
        ("https://ERP.Example", "erp.example", 443, "https://erp.example/"),
        ("HTTPS://erp.example:443/b1s/v1?x=1", "erp.example", 443, None),
        ("http://192.168.1.5:50000/", "192.168.1.5", 50000, "http://192.168.1.5:50000/"),
        ("https://[2A00:0::1]:8443/x", "2a00::1", 8443, "https://[2a00::1]:8443/x"),
        ("https://xn--rom-dma.ro/", "xn--rom-dma.ro", 443, None),
        ("https://a_b.lan/#part", "a_b.lan", 443, "https://a_b.lan/"),
        ("https://h/Items?$filter=a eq 'ă'", "h", 443, "https://h/Items?$filter=a%20eq%20'%C4%83'"),
        ("https://h/a%2Fb?x=%20", "h", 443, "https://h/a%2Fb?x=%20"),
        ("https://h?next=https://user@other/", "h", 443, "https://h?next=https://user@other/"),
    ],
)
def test_urls_have_one_form(url, host, port, canonical):
    target = parse_url(url)
    assert (target.host, target.port) == (host, port)
    assert canonical in {None, target.url}
    other = httpx2.URL(target.url)
    assert (other.scheme, other.raw_host.decode()) == (target.scheme, target.host)


WEIRD = [
    *("", "erp.example", "//erp.example", "ftp://erp.example", "file:///etc/passwd", "https://"),
    *("https:/erp.example", "https:erp.example", "https://user@h/", "https://u:p@h/"),
    *("https://h:0/", "https://h:65536/", "https://h:/", "https://h:4 43/", "https://h:+443/"),
    *("https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/"),
    *("https://0x7f.0.0.1/", "https://1.2.3.4.5/", "https://1.2.3.256/", "https://a.0x/"),
    *("https://127.0.0.1./", "https://erp.example./", "https://.erp.example/", "https://a..b/"),
    *("https://[::1%25eth0]/", "https://[::1%eth0]/", "https://[::1/", "https://::1/"),
    *("https://[1.2.3.4]/", "https://[v1.a]/", "https://h\\@evil/", "https://evil\\.h/"),
    *(
        "https://h\r\nHost: evil/",
        "https://h/\r\nX: y",
        "https://h/\t",
        " https://h/",
        "https://h /",
    ),
    *("https://%31%32%37.0.0.1/", "https://erp%2eexample/", "https://rom\u00e2nia.ro/"),
    *("https://\uff11\uff12\uff17.0.0.1/", "https://erp\u3002example/", "https://h\u2028/"),
    *(
        "https://-a.ro/",
        "https://a-.ro/",
        "https://" + "a" * 64 + ".ro/",
        "https://h/" + "a" * 9000,
    ),
    *("https://" + "a." * 130 + "ro/", "https://h\x00/", "https://a,b/", "https://*/"),
]


@pytest.mark.parametrize("url", WEIRD)
def test_urls_of_two_meanings_are_refused(url):
    with pytest.raises(ForbiddenAddressError):
        parse_url(url)


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.text(max_size=10))
def test_our_parser_and_the_clients_agree_on_every_host(authority, rest):
    """Where both read a URL, they read the same host: no differential to slip through."""
    try:
        target = parse_url(f"https://{authority}/{rest}")
    except ForbiddenAddressError:
        return
    other = httpx2.URL(target.url)
    assert other.raw_host.decode() == target.host
    assert (other.port or 443) == target.port


def test_one_bad_address_among_good_ones_refuses_them_all():
    target = parse_url("https://erp.example/")
    check(NOBODY, target, [PUBLIC])
    for bad in ("10.0.0.1", "::1"):
        with pytest.raises(ForbiddenAddressError) as refused:
            check(NOBODY, target, [PUBLIC, ipaddress.ip_address(bad)])
        assert bad not in str(refused.value)
    with pytest.raises(ForbiddenAddressError):
        check(NOBODY, target, [])


class Names:
    """A DNS that can change its mind."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host, port):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [ipaddress.ip_address(text) for text in answer]


@pytest.fixture
def tls(tmp_path):
    return make_tls(tmp_path)


def client(policy, names=system_resolver, tls=None):
    transport = GuardedTransport(policy, tls, resolver=names)
    return httpx2.AsyncClient(transport=transport, trust_env=False, timeout=5)


async def test_a_listed_server_is_reached_by_its_name_and_an_unlisted_one_never():
    async with Server() as server:
        listed = Policy.parse(f"127.0.0.1:{server.port}")
        async with client(listed, Names(["127.0.0.1"])) as http:
            answer = await http.get(f"http://erp.lan:{server.port}/x")
        assert answer.status_code == 200
        assert server.requests[0].headers["host"] == f"erp.lan:{server.port}"
        for url in (f"http://127.0.0.1:{server.port}", f"https://localhost:{server.port}"):
            async with client(NOBODY) as http:
                with pytest.raises(ForbiddenAddressError):
                    await http.get(url)
        assert server.connections == 1


async def test_a_name_that_changes_between_check_and_connection_gains_nothing():
    """One question per connection: what was checked is what is connected to."""
    async with Server() as server:
        policy = Policy.parse(f"127.0.0.1:{server.port}")
        names = Names(["127.0.0.1"], ["10.255.255.1"])
        async with client(policy, names) as http:
            assert (await http.get(f"http://erp.lan:{server.port}/")).status_code == 200
            assert names.asked == 1
            await server.drop_idle()
            with pytest.raises(ForbiddenAddressError):
                await http.get(f"http://erp.lan:{server.port}/")
        assert names.asked == 2
        assert server.connections == 1


async def test_the_next_address_is_tried_when_the_first_does_not_answer(unused_tcp_port):
    async with Server() as server:
        policy = Policy.parse(f"127.0.0.0/8:{server.port}")
        # nobody listens at the first
        async with client(policy, Names(["127.0.0.2", "127.0.0.1"])) as http:
            assert (await http.get(f"http://erp.lan:{server.port}/")).status_code == 200
        shut = Policy.parse(f"127.0.0.1:{unused_tcp_port}")
        async with client(shut, Names(["127.0.0.1"])) as http:
            with pytest.raises(httpcore2.ConnectError):
                await http.get(f"http://erp.lan:{unused_tcp_port}/")


async def test_tls_asks_for_the_name_and_checks_it(tls):
    async with Server(tls=tls.server) as server:
        policy = Policy.parse(f"127.0.0.1:{server.port}")
        url = f"https://erp.test:{server.port}/"
        async with client(policy, Names(["127.0.0.1"]), tls.client) as http:
            assert (await http.get(url)).status_code == 200
        assert tls.names_asked == ["erp.test"]
        async with client(policy, Names(["127.0.0.1"]), tls.client) as http:
            with pytest.raises(httpcore2.ConnectError):
                await http.get(f"https://other.test:{server.port}/")
        async with client(policy, Names(["127.0.0.1"]), ssl.create_default_context()) as http:
            with pytest.raises(httpcore2.ConnectError):
                await http.get(url)


async def test_a_host_header_of_another_name_is_refused():
    async with Server() as server:
        policy = Policy.parse(f"127.0.0.1:{server.port}")
        url = f"http://127.0.0.1:{server.port}/"
        async with client(policy) as http:
            assert (await http.get(url)).status_code == 200
            with pytest.raises(ForbiddenAddressError):
                await http.get(url, headers={"Host": "internal"})


async def test_names_that_do_not_resolve_are_an_ordinary_trouble():
    async with client(NOBODY, Names(OSError("no such name"))) as http:
        with pytest.raises(httpcore2.ConnectError):
            await http.get("https://erp.example/")
    async with client(NOBODY, Names(["10.0.0.1"])) as http:
        with pytest.raises(ForbiddenAddressError) as refused:
            await http.get("https://erp.example/")
    assert "10.0" not in str(refused.value)


async def test_the_systems_resolver_answers_with_addresses():
    assert set(await system_resolver("localhost", 443)) <= {
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    }
