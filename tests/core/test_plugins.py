"""Parts by name: shipped ones, entry points, and what a user's module brings."""

from importlib.metadata import EntryPoint

import pytest

from router.core import plugins
from router.core.plugins import PluginError, find

SHIPPED = {"mine": dict, "other": list}
NOTHING = None


@pytest.fixture
def installed(monkeypatch):
    points = [
        EntryPoint("mine", "builtins:set", "weft.orders"),
        EntryPoint("theirs", "builtins:set", "weft.orders"),
        EntryPoint("gone", "no_such_module:Order", "weft.orders"),
        EntryPoint("elsewhere", "builtins:set", "weft.scorers"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [each for each in points if each.group == group])


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("name", "found"), [("mine", dict), ("theirs", set), ("builtins:tuple", tuple)])
def test_what_is_shipped_goes_before_an_entry_point_and_that_before_an_import(name, found):
    assert find("order", name, SHIPPED) is found


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("elsewhere", "no order 'elsewhere': use one of mine, other, an entry point or module:Class"),
        ("", "no order ''"),
        ("gone", "cannot load order 'gone': No module named 'no_such_module'"),
        (":x", "cannot load order ':x'"),
        ("builtins:", "cannot load order 'builtins:'"),
        ("builtins:missing", "missing"),
        ("test_plugins:NOTHING", "cannot be called"),
        ("broken_plugin:Order", "division by zero"),
    ],
)
def test_errors_say_what_is_wrong(name, said, tmp_path, monkeypatch):
    (tmp_path / "broken_plugin.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError) as error:
        find("order", name, SHIPPED)
    assert said in str(error.value)
