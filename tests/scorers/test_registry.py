"""User scorers: by entry point, by module:Class, and what happens when they misbehave."""

import textwrap
from importlib.metadata import EntryPoint

import numpy as np
import pytest

import scorers
from router.core import plugins
from scorers.registry import SHIPPED, UnknownScorerError, make_scorer


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module that can be imported by the returned name."""

    def write(source, name):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return write


def documented_example():
    """The code block in the package's docstring."""
    lines = scorers.__doc__.splitlines()
    return "\n".join(line for line in lines if line.startswith("    ") or not line.strip())


def test_the_documented_example_works(scene, module):
    name = module(documented_example(), "documented_example")
    scorer = make_scorer(f"{name}:SameZone", {"zone": "z1"})
    assert scorer.name == "same-zone"
    assert scene.score(scorer) == [0, 1, 0]


def test_entry_points_are_found(scene, module, monkeypatch):
    name = module(documented_example(), "by_entry_point")
    point = EntryPoint("same-zone", f"{name}:SameZone", "weft.scorers")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "weft.scorers" else [])
    assert scene.score(make_scorer("same-zone", {"zone": "z2"})) == [0, 0, 1]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_scorers_are_made_by_name(name):
    assert make_scorer(name, {}).name == name


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("prefix", {}, "prefix-cache"),
        ("prefix-cache", {"weight": 2}, "parameters"),
        ("no_such_module:Scorer", {}, "no_such_module"),
        ("scorers.scale:Missing", {}, "Missing"),
        ("scorers.registry:UnknownScorerError", {}, "score"),
    ],
)
def test_errors_say_what_is_wrong(name, parameters, message):
    with pytest.raises(UnknownScorerError, match=message):
        make_scorer(name, parameters)


BAD = """
    import numpy as np

    class Raises:
        name = "raises"
        def score(self, request, candidates, view):
            return 1 / 0
        def dispatched(self, request, candidates, position, now):
            raise KeyError("gone")

    class Short:
        name = "short"
        def score(self, request, candidates, view):
            return np.ones(1)

    class NotANumber:
        name = "nan"
        def score(self, request, candidates, view):
            return [float("nan")] * len(candidates)

    class Loud:
        name = "loud"
        def score(self, request, candidates, view):
            return [7, -7, 0.5]
"""


@pytest.mark.parametrize("kind", ["Raises", "Short", "NotANumber"])
def test_a_scorer_that_misbehaves_scores_nothing_and_is_counted(scene, module, kind):
    scorer = make_scorer(f"{module(BAD, 'bad_' + kind.lower())}:{kind}", {})
    assert scene.score(scorer) == [0, 0, 0]
    assert scorer.mishaps == 1
    assert scorer.last_mishap
    scene.dispatch(scorer, 0)
    assert scorer.mishaps == (2 if kind == "Raises" else 1)


def test_values_out_of_range_are_clipped(scene, module):
    assert scene.score(make_scorer(f"{module(BAD, 'bad_loud')}:Loud", {})) == [1, 0, 0.5]


def test_numpy_is_what_scorers_return(scene):
    scores = make_scorer("prefix-cache", {}).score(scene.request(), scene.candidates(), scene.view())
    assert isinstance(scores, np.ndarray)
