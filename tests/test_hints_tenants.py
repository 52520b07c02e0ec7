"""Whose request it is."""

from collections import Counter

import pytest

from router.hints.settings import IdentitySettings
from router.hints.tenants import granted_priority, tenant_of

TRUSTING = IdentitySettings(tenant_header="x-weft-tenant")


def tenant(*headers, settings=None, warnings=None):
    return tenant_of(headers, settings or IdentitySettings(), Counter() if warnings is None else warnings)


def test_without_a_key_all_are_one_tenant():
    assert tenant() == tenant((b"authorization", b"")) == ""


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer sk-1"),
        (b"authorization", b"bearer sk-1"),
        (b"x-api-key", b"sk-1"),
        (b"api-key", b"sk-1"),
    ],
)
def test_a_key_is_one_tenant_however_it_is_sent(header):
    assert tenant(header) == tenant((b"authorization", b"Bearer sk-1")) != tenant((b"x-api-key", b"sk-2"))


def test_the_key_itself_is_not_shown():
    shown = tenant((b"authorization", b"Bearer sk-secret"))
    assert shown.startswith("key-")
    assert "secret" not in shown


def test_keys_may_be_of_no_account():
    assert tenant((b"x-api-key", b"a"), settings=IdentitySettings(tenant_from_key=False)) == ""


def test_no_header_is_trusted_unless_configured():
    assert tenant((b"x-weft-tenant", b"acme")) == ""


def test_the_gateways_header_is_trusted():
    assert tenant((b"x-weft-tenant", b"acme"), (b"x-api-key", b"a"), settings=TRUSTING) == "acme"


def test_without_the_gateways_header_the_key_counts():
    assert tenant((b"x-api-key", b"a"), settings=TRUSTING) == tenant((b"x-api-key", b"a"))


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([(b"x-weft-tenant", b"mallory"), (b"x-weft-tenant", b"acme")], "given twice"),
        ([(b"x-weft-tenant", b"a\x00")], "not printable ASCII"),
        ([(b"x-weft-tenant", b"a" * 10_000)], "too long"),
    ],
)
def test_a_header_that_the_gateway_cannot_have_set_is_not_believed(headers, reason):
    warnings = Counter()
    assert tenant(*headers, settings=TRUSTING, warnings=warnings) == ""
    assert warnings == {f"x-weft-tenant: {reason}": 1}


def test_clients_may_call_themselves_less_urgent_and_not_more():
    settings = IdentitySettings(max_priority=1, max_priority_of={"acme": 5})
    assert [granted_priority(asked, "anyone", settings) for asked in (-7, 0, 9)] == [-7, 0, 1]
    assert granted_priority(9, "acme", settings) == 5
