import numpy as np
import pytest

from router.core.fleet import Fleet
from router.core.load import Load
from router.core.types import Prompt, ReplicaSpec, Request
from router.core.view import Candidates, View


class Scene:
    """Three replicas a, b, c; tests set what they hold and how busy they are."""

    def __init__(self):
        self.fleet, self.load = Fleet(), Load()
        for number, name in enumerate("abc"):
            spec = ReplicaSpec(
                name=name, url=f"http://{name}", models=("m",), adapters=("sql", "law"), labels={"zone": f"z{number}"}
            )
            self.load.reset(self.fleet.put(spec), capacity_tokens=1000)
        self.gpu, self.cpu, self.disk = [0, 0, 0], [0, 0, 0], [0, 0, 0]
        self.now = 0.0

    def candidates(self):
        tiers = np.array([self.gpu, self.cpu, self.disk], dtype=float)
        return Candidates(self.fleet.slots, self.fleet, np.vstack([tiers.sum(axis=0), tiers]))

    def score(self, scorer, **request):
        return scorer.score(self.request(**request), self.candidates(), self.view()).tolist()

    def dispatch(self, scorer, position, **request):
        scorer.dispatched(self.request(**request), self.candidates(), position, self.now)

    def view(self):
        return View(self.load, self.fleet.slots, self.now)

    def request(self, tokens=100, model="m", session_id=""):
        prompt = Prompt(np.zeros(tokens, np.uint32)) if tokens else None
        return Request(id="r", model=model, prompt=prompt, session_id=session_id)


@pytest.fixture
def scene():
    return Scene()
