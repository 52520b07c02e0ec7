"""OpenAI Agents SDK: sub-agents at once, each a program of its own, between two steps of the one that started them."""

import asyncio
import os

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, RunConfig, Runner, function_tool
from openai import AsyncOpenAI

from router.client import Program

MODEL = OpenAIChatCompletionsModel(
    model=os.environ.get("MODEL", "meta-llama/Llama-3.1-8B-Instruct"),
    openai_client=AsyncOpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    ),
)
SHORT = ModelSettings(max_tokens=60)


@function_tool
def distance_km(town: str) -> int:
    """How far away a town is."""
    return 100 * len(town)


planner = Agent("planner", instructions="Plan in three lines.", model=MODEL, model_settings=SHORT)
scout = Agent("scout", instructions="Look at one town.", model=MODEL, model_settings=SHORT, tools=[distance_km])
writer = Agent("writer", instructions="Write one paragraph.", model=MODEL, model_settings=SHORT)


async def run_agent(agent: Agent, prompt: str, hints: dict[str, str]) -> str:
    settings = RunConfig(model_settings=ModelSettings(extra_headers=hints), tracing_disabled=True)
    return str((await Runner.run(agent, prompt, run_config=settings)).final_output)


async def visit(town: str) -> str:
    """The scout decides itself how often it calls, so its calls are not named: Weft sees their order."""
    with Program("scout") as run:
        return await run_agent(scout, f"What about {town}?", run.headers())


async def main() -> None:
    with Program("holiday", deadline_s=120) as run:
        plan = await run_agent(planner, "Where should we go?", run.step("plan", remaining=1))
        reports = await asyncio.gather(*(visit(town) for town in ("Evora", "Bergen", "Matera")))
        print(await run_agent(writer, f"{plan}\n{reports}", run.step("write", final=True)))


if __name__ == "__main__":
    asyncio.run(main())
