"""What is compared differs in an option, and every option is one that `weft serve` takes."""

import pytest
from click.testing import CliRunner

from router.commands.check import command as check
from sim.demo.ways import COMPARED


@pytest.mark.parametrize("way", COMPARED, ids=lambda way: way.key)
def test_the_router_takes_its_options(way):
    said = CliRunner().invoke(check, [*way.options, "--replica", "http://127.0.0.1:9"]).output
    assert "127.0.0.1:9" in said
    assert "Usage" not in said


def test_keys_titles_and_options_tell_them_apart():
    for value in ("key", "title", "options"):
        assert len({getattr(way, value) for way in COMPARED}) == len(COMPARED)


def test_weft_as_shipped_has_no_option():
    assert [way.options for way in COMPARED].count(()) == 1
