"""`weft bench` for fleets of prefill and decode replicas."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_world import inline, results_in, rows_in, weft_bench

from router.core.disaggregation.rule import Way, Ways
from sim.engine.profile import PROFILES
from sim.policies.catalogue import POLICIES, find_policies
from sim.policies.dynamo_pd import IslBounding
from sim.policies.dynamo_pd_queue import LongAndShortQueue

__all__ = ["inline"]

SMALL = ("--workload", "uniform", "--programs", "8", "--seeds", "1", "--load", "0.4", "--no-report")
FLEET = ("--prefill", "2", "--decode", "1")


def test_rows_tell_what_became_of_the_prompts(inline: None, tmp_path: Path) -> None:
    policies = ("--policies", "pd-always,pd-never,pd-aggregated,weft")
    result = weft_bench(*SMALL, *FLEET, *policies, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    rows = {str(row["policy"]): row for row in rows_in(tmp_path)}
    assert rows["pd-always"]["replicas"] == 3
    assert [rows[policy]["disaggregated_share"] for policy in ("pd-always", "pd-never", "pd-aggregated")] == [1, 0, 0]
    assert rows["pd-never"]["prefill_utilisation"] == 0.0
    for policy in ("pd-always", "pd-aggregated"):
        assert float(str(rows[policy]["prefill_utilisation"])) > 0
    assert float(str(rows["pd-always"]["transfer_p50_s"])) > 0
    assert rows["pd-always"]["fetched_tokens"] == rows["pd-always"]["prompt_tokens"]
    assert "both_utilisation" not in rows["weft"]
    assert "elsewhere %" in result.output


def test_a_fleet_without_roles_says_nothing_of_them(inline: None, tmp_path: Path) -> None:
    assert weft_bench(*SMALL, "--replicas", "2", "--policies", "weft", "--out", tmp_path).exit_code == 0
    (row,) = rows_in(tmp_path)
    assert not {"disaggregated_share", "transfer_mean_s", "both_utilisation"} & row.keys()


def test_a_slower_network_is_a_longer_transfer(inline: None, tmp_path: Path) -> None:
    def transfer_s(*options: str) -> float:
        place = tmp_path / "_".join(("run", *options))
        result = weft_bench(*SMALL, *FLEET, "--policies", "pd-always", "--out", place, *options)
        assert result.exit_code == 0, result.output
        return float(str(rows_in(place)[0]["transfer_mean_s"]))

    usual_s = transfer_s()
    assert transfer_s("--bandwidth-gbps", "100") == pytest.approx(2 * usual_s, rel=0.2)
    assert transfer_s("--transfer-latency-ms", "102") == pytest.approx(usual_s + 0.1, rel=0.2)
    assert transfer_s("--transfer-overlap", "1") < usual_s / 2


def test_a_share_of_transfers_can_fail(inline: None, tmp_path: Path) -> None:
    options = ("--policies", "pd-always", "--transfer-failures", "1", "--out", tmp_path)
    assert weft_bench(*SMALL, *FLEET, *options).exit_code == 0
    (row,) = rows_in(tmp_path)
    assert (row["failed_fetches"], row["fetched_tokens"]) == (row["requests"], 0)
    assert results_in(tmp_path)["settings"]["transfer_failures"] == 1.0  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--prefill", "1"), "--prefill and --decode go together"),
        ((*FLEET, "--replicas", "3"), "leave --replicas out"),
        (("--bandwidth-gbps", "100"), "--bandwidth-gbps is about fleets with --prefill and --decode"),
        (("--policies", "pd-always"), "pd-always is about prefill and decode replicas"),
        ((*FLEET, "--cache-only"), "--prefill means nothing without time"),
    ],
)
def test_what_does_not_go_together_is_said(options: tuple[str, ...], says: str) -> None:
    result = weft_bench("--workload", "uniform", *options)
    assert result.exit_code == 2
    assert says in " ".join(result.output.replace("│", " ").split())


def test_a_profile_that_does_not_say_how_large_kv_is_cannot_have_roles(tmp_path: Path) -> None:
    shipped = (PROFILES / "laptop-demo.yaml").read_text()
    profile = tmp_path / "mine.yaml"
    profile.write_text("".join(line for line in shipped.splitlines(True) if "kv_bytes_per_token" not in line))
    result = weft_bench("--workload", "uniform", *FLEET, "--profile", profile)
    assert result.exit_code == 2
    assert "kv_bytes_per_token" in result.output


def test_all_policies_are_those_that_the_fleet_can_show() -> None:
    without, with_roles = find_policies("all"), find_policies("all", roles=True)
    assert {policy.name for policy in with_roles} == set(POLICIES)
    assert {"weft", "pd-always"} & {policy.name for policy in without} == {"weft"}


def ways(prompt_tokens: int, cached_tokens: int, queued: float = 0.0) -> Ways:
    here = Way("d", prompt_tokens, cached_tokens, 0.0, 0.0, 0.0, 1e4)
    return Ways(here, Way("p", prompt_tokens, 0, 0.0, queued, 0.0, 1e4), 0.01)


@pytest.mark.parametrize(
    ("prompt_tokens", "cached_tokens", "elsewhere"),
    [(10_000, 9_000, False), (10_000, 7_000, True), (1_000, 400, False), (1_000, 200, True), (2_048, 0, True)],
)
def test_dynamo_computes_here_what_is_little_in_tokens_and_in_share(
    prompt_tokens: int, cached_tokens: int, elsewhere: bool
) -> None:
    assert IslBounding().disaggregates(ways(prompt_tokens, cached_tokens)) is elsewhere


@pytest.mark.parametrize(
    ("uncached_tokens", "queued", "elsewhere"),
    [(1_001, 0, True), (1_000, 0, False), (5_000, 2, True), (5_000, 3, False)],
)
def test_dynamos_first_rule_keeps_long_prompts_here_when_prefills_wait(
    uncached_tokens: int, queued: float, elsewhere: bool
) -> None:
    assert LongAndShortQueue().disaggregates(ways(uncached_tokens, 0, queued)) is elsewhere
