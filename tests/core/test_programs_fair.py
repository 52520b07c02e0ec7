"""A bounded table in which each tenant makes room for itself."""

from hypothesis import given
from hypothesis import strategies as st

from router.core.programs.fair import FairTable, Holdings

tenants = st.sampled_from(["a", "b", "c", "d"])


def fill(table, tenant, count, size_bytes=0, first=0):
    for number in range(first, first + count):
        table.put((tenant, f"{number}"), number, size_bytes)
        while (key := table.surplus(tenant)) is not None:
            table.pop(key)


def held(table, tenant):
    return [name for owner, name in table._values if owner == tenant]


def test_who_floods_the_table_pushes_out_only_its_own():
    table = FairTable(1_000)
    fill(table, "quiet", 400)
    fill(table, "loud", 100_000)
    assert len(table) == 1_000
    assert len(held(table, "quiet")) == 400
    assert held(table, "loud")[0] == "99400", "its oldest went first"


def test_who_holds_most_makes_room_for_the_others():
    table = FairTable(1_000)
    fill(table, "first", 1_000)
    fill(table, "second", 300)
    assert len(held(table, "first")) == 700
    assert len(held(table, "second")) == 300


def test_bytes_are_shared_like_entries():
    table = FairTable(1_000_000, max_bytes=100_000)
    fill(table, "small", 50, size_bytes=100)
    fill(table, "large", 500, size_bytes=10_000)
    assert table.bytes <= 100_000
    assert len(held(table, "small")) == 50


def test_what_is_used_stays():
    table = FairTable(3)
    fill(table, "a", 3)
    table.use(("a", "0"))
    fill(table, "a", 1, first=3)
    assert held(table, "a") == ["2", "0", "3"]
    assert table.oldest() == 2


def test_a_single_entry_stays_however_large():
    table = FairTable(10, max_bytes=10)
    fill(table, "a", 1, size_bytes=1_000)
    assert len(table) == 1


@given(changes=st.lists(st.tuples(tenants, st.integers(-50, 100)), max_size=60), rather=tenants)
def test_the_largest_holds_at_least_half_of_what_anyone_does(changes, rather):
    holdings, amounts = Holdings(), {}
    for tenant, amount in changes:
        amount = max(amount, -amounts.get(tenant, 0))
        holdings.add(tenant, amount)
        amounts[tenant] = amounts.get(tenant, 0) + amount
        most = max(amounts.values())
        assert holdings.total == sum(amounts.values())
        if most:
            largest = holdings.largest(rather)
            assert 2 * amounts[largest] > most
            if amounts.get(rather, 0) == most:
                assert largest == rather


@given(
    calls=st.lists(
        st.tuples(st.sampled_from(["put", "use", "resize", "pop"]), tenants, st.integers(0, 9), st.integers(0, 40)),
        max_size=80,
    )
)
def test_it_stays_within_its_bounds_and_counts_right(calls):
    table, sizes = FairTable(8, max_bytes=100), {}
    for what, tenant, name, size_bytes in calls:
        key = tenant, str(name)
        if what == "put" and key not in sizes:
            table.put(key, key, size_bytes)
            sizes[key] = size_bytes
        elif key in sizes:
            if what == "use":
                table.use(key)
                sizes[key] = sizes.pop(key)
            elif what == "resize":
                table.resize(key, size_bytes)
                sizes[key] = size_bytes
            elif what == "pop":
                assert table.pop(key) == key
                del sizes[key]
        while (surplus := table.surplus(tenant)) is not None:
            own = [each for each in sizes if each[0] == surplus[0]]
            assert surplus == own[0], "the least recently used of its tenant"
            table.pop(surplus)
            del sizes[surplus]
        assert list(table) == list(sizes)
        assert table.bytes == sum(sizes.values())
        assert len(table) <= 8
        assert table.bytes <= 100 or len(table) == 1
