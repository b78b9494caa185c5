"""Which network a request is counted for: nobody can choose another one's."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.server.networks import UNKNOWN, network_of

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48"))


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("127.0.0.1", "127.0.0.0/24"),
        ("2001:db8:1:2::5", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        (None, UNKNOWN),
        ("", UNKNOWN),
        ("testclient", UNKNOWN),
    ],
)
def test_an_address_is_cut_to_what_one_customer_gets(peer: str | None, network: str) -> None:
    assert network_of(peer, None, trusted=()) == network


@pytest.mark.parametrize("header", ["198.51.100.1", "198.51.100.1, 10.1.1.1", "nonsense", "," * 1000])
def test_without_trusted_proxies_nobody_is_believed(header: str) -> None:
    assert network_of("192.0.2.77", header, trusted=()) == "192.0.2.0/24"


@pytest.mark.parametrize(
    ("header", "network"),
    [
        ("198.51.100.1", "198.51.100.0/24"),
        ("203.0.113.9, 198.51.100.1", "198.51.100.0/24"),  # the first one is the sender's own invention
        ("198.51.100.1, 10.2.2.2, 10.3.3.3", "198.51.100.0/24"),  # through a chain of our own
        ("198.51.100.1,2001:db8:ffff::9", "198.51.100.0/24"),
        ("[2001:db8:1::5]:443", "2001:db8:1::/48"),
        ("198.51.100.1:51234", "198.51.100.0/24"),
        ("10.9.9.9", "10.9.9.0/24"),
        ("", "10.1.1.0/24"),
        ("unknown", "10.1.1.0/24"),
        ("198.51.100.1, _hidden", "10.1.1.0/24"),
    ],
)
def test_behind_a_trusted_proxy_the_nearest_stranger_counts(header: str, network: str) -> None:
    assert network_of("10.1.1.1", header, trusted=PROXIES) == network


@given(st.text(max_size=60))
def test_a_stranger_cannot_choose_its_network(header: str) -> None:
    assert network_of("192.0.2.77", header, trusted=PROXIES) == "192.0.2.0/24"


@given(st.text(st.characters(exclude_characters=","), max_size=40))
def test_what_a_sender_puts_before_the_proxys_word_changes_nothing(invented: str) -> None:
    assert network_of("10.1.1.1", f"{invented}, 198.51.100.1", trusted=PROXIES) == "198.51.100.0/24"
