"""`/v1/programs`: graphs in, programs out, each tenant's own alone, and nothing that is sent there does harm."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.admin.programs import MAX_DECLARATION_BYTES, ProgramsApi
from router.core.programs.table import TableLimits
from router.core.programs.tracker import Programs
from router.core.types import Request
from router.errors import ApiError
from router.hints.settings import IdentitySettings
from router.proxy.ports import LocalRequest

GRAPH = {"class": "review", "steps": [{"name": "plan"}, {"name": "write", "after": ["plan"], "tool_ms": 50}]}


class Client:
    """Asks the API, as tenant ``a`` unless told otherwise."""

    def __init__(self, **limits):
        self.now = 100.0
        self.programs = Programs(TableLimits(**limits))
        identity = IdentitySettings(tenant_header="x-tenant", max_priority=2)
        self.api = ProgramsApi(self.programs, identity, lambda: self.now)

    async def ask(self, method, path, body=b"", tenant="a", query=""):
        """(status, JSON), of errors too."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            answer = await self.api.answer(LocalRequest(method, path, query, [(b"x-tenant", tenant.encode())], body))
        except ApiError as error:
            return error.status, json.loads(error.body())["error"]
        assert (b"content-type", b"application/json") in answer.headers
        return answer.status, json.loads(answer.body)

    async def put(self, name, graph=None, tenant="a"):
        return await self.ask("PUT", f"/{name}", GRAPH if graph is None else graph, tenant)

    async def names(self, query="", tenant="a"):
        status, page = await self.ask("GET", "", query=query, tenant=tenant)
        assert status == 200
        return [row["id"] for row in page["data"]]

    def call(self, name, tenant="a", request_id="r"):
        """A call of a program comes."""
        return self.programs.table.observe(Request(request_id, "m", tenant=tenant, session_id=name), self.now)


@pytest.fixture
def client():
    return Client()


async def test_a_declared_program_is_shown_with_its_graph(client):
    status, made = await client.put("p")
    assert status == 201
    assert await client.ask("GET", "/p") == (200, made)
    assert (made["object"], made["id"], made["class"], made["declared"]) == ("program", "p", "review", True)
    assert [(step["name"], step["state"], step["after"]) for step in made["steps"]] == [
        ("plan", "expected", []),
        ("write", "expected", ["plan"]),
    ]


async def test_declared_again_the_new_graph_counts(client):
    await client.put("p")
    status, made = await client.put("p", {"steps": [{"name": "plan"}, {"name": "stop"}]})
    assert status == 200
    assert [step["name"] for step in made["steps"]] == ["plan", "stop"]


async def test_a_program_with_calls_under_way_can_be_declared_and_deleted(client):
    step = client.call("p")
    status, made = await client.put("p")
    assert (status, made["waiting"], len(made["steps"])) == (200, 1, 3)
    assert await client.ask("DELETE", "/p") == (200, {"id": "p", "object": "program", "deleted": True})
    client.programs.table.withdrawn(step, client.now)
    assert (await client.ask("GET", "/p"))[0] == 404


async def test_deleted_twice_it_is_not_known(client):
    await client.put("p")
    await client.ask("DELETE", "/p")
    status, error = await client.ask("DELETE", "/p")
    assert (status, error["code"]) == (404, "program_not_found")


async def test_a_stranger_sees_touches_and_learns_nothing(client):
    await client.put("p")
    nobodys = await client.ask("GET", "/q", tenant="b")
    theirs = await client.ask("GET", "/p", tenant="b")
    assert (theirs[0], theirs[1]["message"]) == (404, nobodys[1]["message"].replace("`q`", "`p`"))
    assert (await client.ask("DELETE", "/p", tenant="b"))[0] == 404
    assert await client.names(tenant="b") == []
    assert (await client.put("p", {"steps": [{"name": "mine"}]}, tenant="b"))[0] == 201
    await client.ask("DELETE", "/p", tenant="b")
    assert [step["name"] for step in (await client.ask("GET", "/p"))[1]["steps"]] == ["plan", "write"]


async def test_nobody_is_more_urgent_than_the_configuration_lets_them(client):
    assert (await client.put("p", GRAPH | {"priority": 9}))[1]["priority"] == 2
    assert (await client.put("q", GRAPH | {"priority": -9}))[1]["priority"] == -9


@pytest.mark.parametrize(
    ("graph", "place", "words"),
    [
        ({"steps": [{"name": "a", "after": ["b"]}, {"name": "b", "after": ["a"]}]}, "steps[1].after[0]", "a -> b -> a"),
        ({"steps": [{"name": "a", "after": ["q"]}]}, "steps[0].after[0]", "no step is named 'q'"),
        ({"steps": [{"name": "a"}, {"name": "a"}]}, "steps[1].name", "steps[0] already"),
        ({"steps": [{"name": f"s{n}"} for n in range(100_000)]}, "steps", "100,000 steps, at most 4,096"),
        ({"steps": [{"name": "a", "tool_ms": "x"}]}, "steps[0].tool_ms", "got `str`"),
        ({"steps": [{"name": "a\n"}]}, "steps[0].name", "printable ASCII"),
        ({"steps": [{"name": "a"}], "class": "ä"}, "class", "printable ASCII"),
        ({"steps": [{"name": "a"}], "speed": 1}, None, "unknown field `speed`"),
        ([], None, "Expected `object`"),
        (b'{"steps":', None, "not valid JSON"),
        (b"\xff", None, "not valid JSON"),
        (b"", None, "not valid JSON"),
        (b"[" * 100_000, None, "nested too deeply"),
    ],
)
async def test_a_bad_graph_is_a_400_that_names_the_place(client, graph, place, words):
    status, error = await client.put("p", graph)
    assert (status, error["code"], error["param"]) == (400, "invalid_graph", place)
    assert words in error["message"]
    assert len(client.programs.table) == 0


async def test_a_bad_graph_leaves_a_known_program_as_it_was(client):
    _, before = await client.put("p")
    await client.put("p", {"steps": [{"name": "a", "after": ["a"]}]})
    assert await client.ask("GET", "/p") == (200, before)


async def test_a_graph_that_is_too_long_is_not_read(client):
    status, error = await client.put("p", b" " * (MAX_DECLARATION_BYTES + 1))
    assert (status, error["code"]) == (413, "graph_too_large")


async def test_large_graphs_are_read_one_at_a_time(client):
    graph = {"steps": [{"name": f"step {number}" + "x" * 200} for number in range(1000)]}
    answers = await asyncio.gather(*(client.put(name, graph) for name in "pqp"))
    assert [status for status, _ in answers] == [201, 201, 200]
    assert {answer["remaining_calls"] for _, answer in answers} == {1000}


@pytest.mark.parametrize("name", ["x" * 257, "%00", "a%0Ab", "%E2%89%88deadbeef", "%20p", "%FF"])
async def test_a_name_that_no_call_could_send_is_refused(client, name):
    status, error = await client.put(name)
    assert (status, error["param"], error["code"]) == (400, "id", "invalid_id")
    assert (await client.ask("GET", f"/{name}"))[0] == 404


async def test_a_name_may_hold_slashes(client):
    await client.put("session%2Fagent")
    assert await client.names() == ["session/agent"]
    assert (await client.ask("GET", "/session/agent"))[0] == 200


async def test_all_programs_can_only_be_read(client):
    assert (await client.ask("PUT", "", GRAPH))[0] == 405
    assert (await client.ask("DELETE", "/"))[0] == 405


async def test_single_requests_are_no_programs(client):
    client.programs.table.observe(Request("r", "m", tenant="a"), client.now)
    assert await client.names() == []
    assert (await client.ask("GET", "/request%20r"))[0] == 404


async def test_where_programs_are_not_followed_it_says_so():
    api = ProgramsApi(None, IdentitySettings(), lambda: 0.0)
    with pytest.raises(ApiError) as error:
        await api.answer(LocalRequest("GET", "", "", [], b""))
    assert (error.value.status, error.value.code) == (404, "programs_disabled")


async def test_the_list_is_filtered_by_class_and_state(client):
    client.call("waits")
    await client.put("declared")
    assert await client.names("class=review") == ["declared"]
    assert await client.names("state=waiting") == ["waits"]
    assert await client.names("state=waiting&class=review") == []


async def test_the_most_recently_active_come_first(client):
    for name in "abc":
        client.call(name)
        client.now += 1
    client.call("a", request_id="again")
    assert await client.names() == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=%C2%B2", "limit"),
        ("after=x", "after"),
        ("state=asleep", "state"),
        ("sort=up", "sort"),
        ("&".join(f"a{number}=1" for number in range(100)), None),
    ],
)
async def test_a_bad_parameter_is_named(client, query, param):
    status, error = await client.ask("GET", "", query=query)
    assert (status, error["param"]) == (400, param)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 3), max_size=30),
    st.integers(1, 7),
    st.sets(st.integers(0, 29)),
)
async def test_pages_together_hold_each_program_that_stays_once(gaps, limit, gone):
    client = Client()
    for number, gap in enumerate(gaps):
        client.now += gap
        client.call(f"{number}")
    pages, query = [], f"limit={limit}"
    while query:
        _, page = await client.ask("GET", "", query=query)
        pages.append([row["id"] for row in page["data"]])
        query = f"limit={limit}&after={page['next_after']}" if page["has_more"] else ""
    everyone = [f"{number}" for number in reversed(range(len(gaps)))]
    assert [name for page in pages for name in page] == everyone
    assert all(len(page) == limit for page in pages[:-1])
    if len(pages) > 1:
        _, page = await client.ask("GET", "", query=f"limit={limit}")
        for number in gone & set(range(len(gaps))):
            await client.ask("DELETE", f"/{number}")
        _, rest = await client.ask("GET", "", query=f"limit=100&after={page['next_after']}")
        left = [name for name in everyone[limit:] if int(name) not in gone]
        assert {row["id"] for row in rest["data"]} >= set(left)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=9))
async def test_whatever_is_sent_is_answered(body):
    status, _ = await Client().ask("PUT", "/p", body)
    assert status == 400
