"""How far replicas are from each other."""

from router.core.disaggregation.topology import Distance, distance
from router.core.types import ReplicaSpec


def at(**labels):
    return ReplicaSpec("r", "http://r", labels=labels)


def test_the_nearest_thing_that_both_share_counts():
    here = at(node="n1", rack="r1", zone="a")
    assert distance(here, at(node="n1", rack="r1", zone="a")) is Distance.NODE
    assert distance(here, at(node="n2", rack="r1", zone="a")) is Distance.RACK
    assert distance(here, at(node="n2", rack="r2", zone="a")) is Distance.ZONE
    assert distance(here, at(node="n2", rack="r2", zone="b")) is Distance.FAR


def test_replicas_without_labels_are_at_no_known_distance():
    assert distance(at(), at(node="n1")) is Distance.UNKNOWN
    assert distance(at(node="n1"), at(rack="r1")) is Distance.UNKNOWN
    assert distance(at(zone="a"), at(zone="a", node="n1")) is Distance.ZONE


def test_labels_may_have_other_names():
    names = ("kubernetes.io/hostname", "rack", "topology.kubernetes.io/zone")
    zone = {"topology.kubernetes.io/zone": "a"}
    assert distance(at(**zone), at(**zone), names) is Distance.ZONE
