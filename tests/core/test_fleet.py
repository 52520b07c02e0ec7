import pytest

from router.core.fleet import MAX_REPLICAS, Fleet, FleetFullError, ModelRef
from router.core.types import Health, ReplicaSpec


def spec(name, models=("m",), **other):
    return ReplicaSpec(name=name, url=f"http://{name}", models=models, **other)


def test_slots_of_replicas_that_left_are_used_again():
    fleet = Fleet()
    assert [fleet.put(spec("a")), fleet.put(spec("b"))] == [0, 1]
    assert fleet.remove("a") == 0
    assert fleet.put(spec("c")) == 0
    assert fleet.remove("nobody") is None
    assert sorted(spec.name for _, spec in fleet) == ["b", "c"]


def test_putting_a_known_replica_keeps_its_slot_and_health():
    fleet = Fleet()
    slot = fleet.put(spec("a"))
    fleet.set_health("a", Health.HEALTHY)
    assert fleet.put(spec("a", models=("m", "alias"))) == slot
    assert fleet.routable[slot]
    assert fleet.resolve("alias") == ModelRef("m")


def test_only_healthy_replicas_are_routable():
    fleet = Fleet()
    slot = fleet.put(spec("a"))
    assert not fleet.routable[slot]
    for health in Health:
        fleet.set_health("a", health)
        assert fleet.routable[slot] == (health is Health.HEALTHY)


def test_a_new_tenant_of_a_slot_starts_unproven():
    fleet = Fleet()
    fleet.put(spec("a"))
    fleet.set_health("a", Health.HEALTHY)
    fleet.remove("a")
    slot = fleet.put(spec("b"))
    assert not fleet.routable[slot]


def test_adapter_names_resolve_to_their_base_model():
    fleet = Fleet()
    fleet.put(spec("a", models=("m", "m-latest"), adapters=("sql",)))
    fleet.put(spec("b"))
    assert fleet.resolve("sql") == ModelRef("m", "sql")
    assert fleet.resolve("m-latest") == ModelRef("m")
    assert fleet.resolve("other") is None
    assert fleet.serving("sql").tolist() == [True, False]
    assert fleet.serving("other").tolist() == [False, False]


def test_no_model_name_means_the_only_model():
    fleet = Fleet()
    assert fleet.resolve("") is None
    fleet.put(spec("a"))
    fleet.put(spec("b"))
    assert fleet.resolve("") == ModelRef("m")
    fleet.put(spec("c", models=("n",)))
    assert fleet.resolve("") is None


def test_block_sizes_are_known_per_model():
    fleet = Fleet()
    fleet.put(spec("a", block_size_tokens=16))
    fleet.put(spec("b", block_size_tokens=32))
    fleet.put(spec("c", models=("n",), block_size_tokens=64))
    assert fleet.block_sizes_tokens("m") == (16, 32)
    assert fleet.block_sizes_tokens("n") == (64,)


def test_a_full_fleet_says_so():
    fleet = Fleet()
    fleet._refresh = lambda: None
    for number in range(MAX_REPLICAS):
        fleet.put(spec(str(number)))
    with pytest.raises(FleetFullError, match="1024"):
        fleet.put(spec("one more"))
