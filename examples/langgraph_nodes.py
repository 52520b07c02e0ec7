"""LangGraph: a node fans out to as many others as it likes, and one joins them; each says so in its call's headers."""

import asyncio
import operator
import os
from typing import Annotated, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from router.client import Program

llm = ChatOpenAI(
    model=os.environ.get("MODEL", "meta-llama/Llama-3.1-8B-Instruct"),
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
    max_tokens=60,
)


class State(TypedDict, total=False):
    question: str
    topics: list[str]
    topic: str
    findings: Annotated[list[str], operator.add]
    answer: str


async def ask(prompt: str, name: str, **hints) -> str:
    run = Program.current()
    return (await llm.ainvoke(prompt, extra_headers=run.step(name, **hints) if run else None)).text


async def plan(state: State) -> State:
    await ask(f"Which topics matter to: {state['question']}", "plan", remaining=2)
    return {"topics": ["price", "quality", "delivery"]}


def spread(state: State) -> list[Send]:
    return [Send("search", {**state, "topic": topic}) for topic in state["topics"]]


async def search(state: State) -> State:
    name, width = f"search {state['topic']}", len(state["topics"])
    return {"findings": [await ask(f"What of {state['topic']}?", name, join="merge", width=width, remaining=1)]}


async def merge(state: State) -> State:
    return {"answer": await ask(f"{state['findings']}\n{state['question']}", "merge", final=True)}


async def main() -> None:
    graph = StateGraph(State).add_node(plan).add_node(search).add_node(merge)
    graph.add_edge(START, "plan").add_conditional_edges("plan", spread, ["search"])
    app = graph.add_edge("search", "merge").add_edge("merge", END).compile()
    with Program("buyer"):
        print((await app.ainvoke({"question": "Which of them should we buy?"}))["answer"])


if __name__ == "__main__":
    asyncio.run(main())
