"""docs/scorers.md has a row for every scorer that is shipped."""

import re
from pathlib import Path

from scorers.registry import SHIPPED

TEXT = (Path(__file__).parents[2] / "docs" / "scorers.md").read_text()


def test_every_shipped_scorer_is_documented():
    assert set(SHIPPED) <= set(re.findall(r"^\| `([\w-]+)` \|", TEXT, re.MULTILINE))
