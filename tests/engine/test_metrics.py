"""What a scrape of vLLM's metrics says about load."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.core.types import LoadReport
from router.engine.metrics import read_scrape

TWO_ENGINES = b"""\
process_start_time_seconds 1.5e9
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 5.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 100.0
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.7e9
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 40.0
"""

RECORDED = Path(__file__).parents[3] / "shared" / "vllm" / "vllm_metrics.txt"


def test_a_rank_is_one_engine() -> None:
    scrape = read_scrape(TWO_ENGINES)
    assert scrape.report(0) == LoadReport(3, 1, 0.25, 100.0, 40.0)
    assert scrape.report(1) == LoadReport(5, 0, 0.75)
    assert scrape.report(2) is None


def test_a_server_is_all_its_engines() -> None:
    assert read_scrape(TWO_ENGINES).report(None) == LoadReport(8, 1, 0.5, 100.0, 40.0)


def test_the_start_of_the_process() -> None:
    assert read_scrape(TWO_ENGINES).started_s == 1.5e9


def test_names_of_older_versions() -> None:
    scrape = read_scrape(
        b'vllm:num_requests_running{model_name="m"} 1\n'
        b'vllm:gpu_cache_usage_perc{model_name="m"} 0.5\n'
        b'vllm:gpu_prefix_cache_queries_total{model_name="m"} 10\n'
        b'vllm:gpu_prefix_cache_hits_total{model_name="m"} 4\n'
    )
    assert scrape.report(None) == LoadReport(1, 0, 0.5, 10.0, 4.0)


def test_adapters_of_the_newest_line_count() -> None:
    scrape = read_scrape(
        b'vllm:num_requests_running{engine="0"} 1\n'
        b'vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 10.0\n'
        b'vllm:lora_requests_info{max_lora="4",running_lora_adapters="a, b",waiting_lora_adapters="c"} 12.0\n'
        b'vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 11.0\n'
    )
    report = scrape.report(None)
    assert report is not None
    assert report.active_adapters == {"a", "b", "c"}


@pytest.mark.parametrize("value", [b"x", b"", b"NaN", b"+Inf", b"-1"])
def test_a_malformed_line_is_listed_and_the_rest_is_read(value: bytes) -> None:
    scrape = read_scrape(
        b'vllm:num_requests_running{engine="0"} ' + value + b'\nvllm:num_requests_waiting{engine="0"} 7\n'
    )
    assert len(scrape.malformed) == 1
    assert scrape.report(None) == LoadReport(0, 7, 0.0)


def test_a_body_of_something_else_reports_nothing() -> None:
    assert read_scrape(b"<html>not found</html>").report(None) is None


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded metrics of a real vLLM are not at hand")
def test_metrics_of_a_real_vllm() -> None:
    scrape = read_scrape(RECORDED.read_bytes())
    assert scrape.malformed == []
    assert scrape.report(0) == LoadReport(0, 0, 0.0, 4128.0, 384.0)
    assert scrape.started_s == pytest.approx(1.79514480983e9)
