"""docs/architecture.md names every module that somebody wrote, and no module that is gone."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text()


def modules():
    return {
        str(path.relative_to(ROOT))
        for package in ("router", "scorers", "flow", "sim", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py" and not path.name.endswith("_pb2.py")
    }


def test_every_module_has_its_line():
    listed = set(re.findall(r"^\| `([\w/.]+\.py)` \|", TEXT, re.MULTILINE))
    assert modules() - listed == set()
    assert listed - modules() == set()
