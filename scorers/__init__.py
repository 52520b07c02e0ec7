"""Scorers: small classes that rate candidates for a request.

This is the public plug-in interface. A scorer needs a ``name`` and a ``score``::

    import numpy as np

    class SameZone:
        name = "same-zone"

        def __init__(self, zone: str) -> None:
            self.zone = zone

        def score(self, request, candidates, view):
            return np.array([replica.labels.get("zone") == self.zone for replica in candidates.replicas], float)

and is used in a profile as ``{name: my_module:SameZone, weight: 1, parameters: {zone: a}}``.
"""
