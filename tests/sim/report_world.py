"""Small results and a strict reader of pages for the tests of the report."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser

from sim.bench.measure import Row
from sim.bench.results import Results

_VOID = {"meta", "br", "hr", "img", "input", "link"}

FIGURES: Row = {
    "completion_mean_s": 10.0,
    "completion_p95_s": 20.0,
    "ttft_p95_s": 1.5,
    "tpot_mean_s": 0.025,
    "prefix_hit_rate": 0.5,
    "recomputed_tokens": 12_345,
    "imbalance": 1.2,
    "jain_programs": 0.9,
    "goodput_fraction": 0.75,
    "gpu_s_per_program": 3.0,
}


def row(policy: str, *, workload: str = "swarm", load: float | None = 0.9, seed: int = 1, **figures: object) -> Row:
    place: Row = {"workload": workload, "policy": policy, "load": load, "seed": seed, "cache_blocks": 1000}
    return place | FIGURES | figures


def rows(
    policies: Sequence[str], loads: Sequence[float] = (0.7, 0.9, 1.1), seeds: int = 2, workload: str = "swarm"
) -> list[Row]:
    """Later policies, higher loads and later seeds are slower."""
    return [
        row(policy, workload=workload, load=load, seed=seed, completion_mean_s=10 * (1 + place) * load + seed)
        for load in loads
        for place, policy in enumerate(policies)
        for seed in range(1, seeds + 1)
    ]


def curve(policy: str, workload: str = "swarm") -> list[Row]:
    point = {"workload": workload, "policy": policy, "load": 0.9, "seed": 1, "block_size_tokens": 16}
    sizes = {1000: 0.2, 2000: 0.4, None: 0.6}
    return [point | {"cache_blocks": blocks, "prefix_hit_rate": rate} for blocks, rate in sizes.items()]


def gantt(*policies: str, workload: str = "swarm") -> Row:
    return {
        "workload": workload,
        "program": "swarm-3",
        "load": 0.9,
        "seed": 1,
        "policies": dict.fromkeys(policies, STEPS),
    }


def step(name: str, sent_s: float, ended_s: float, *after: str, agent: str = "") -> Row:
    times = {"sent_s": sent_s, "scheduled_s": sent_s + 0.1, "first_token_s": sent_s + 0.5, "ended_s": ended_s}
    tokens = {"cached_tokens": 30, "prompt_tokens": 40}
    return {"step": name, "agent": agent, "replica": 1, "after": list(after)} | times | tokens


STEPS = [
    step("plan", 0.0, 1.0),
    step("left", 1.0, 3.0, "plan", agent="child-1"),
    step("right", 1.0, 4.0, "plan", agent="child-2"),
    step("join", 4.5, 6.0, "left", "right"),
]


def full_results(policies: Sequence[str] = ("round-robin", "least-load", "max-prefix", "oracle", "weft")) -> Results:
    return Results(
        "weft bench --workload swarm --policies all",
        {"replicas": 8},
        rows(policies),
        [point for policy in policies for point in curve(policy)],
        [gantt(policies[0], policies[-1])],
    )


class Page(HTMLParser):
    """Reads a page and fails where elements are not closed in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tables: list[list[list[str]]] = []
        """Cells' texts, by table and row; the first row are the headings."""
        self.captions: list[str] = []
        self.titles: set[str] = set()
        """What the parts of figures are called."""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "caption":
            self.captions.append("")
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data
        if self._open[-1:] == ["caption"]:
            self.captions[-1] += data
        if self._open[-2:] == ["g", "title"]:
            self.titles.add(data)

    def table(self, caption: str) -> list[list[str]]:
        return self.tables[self.captions.index(caption)]
