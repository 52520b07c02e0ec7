"""OpenAI SDK: a plan, three searches at once by threads, a reviewing sub-agent, and the answer that waited for all."""

import os
from concurrent.futures import ThreadPoolExecutor

from openai import OpenAI

from router.client import Program

MODEL = os.environ.get("MODEL", "meta-llama/Llama-3.1-8B-Instruct")
CITIES = ("Lisbon", "Oslo", "Rome")

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)


def ask(prompt: str, hints: dict[str, str], max_tokens: int = 60) -> str:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": prompt}],
        max_tokens=max_tokens,
        extra_headers=hints,
    )
    return answer.choices[0].message.content or ""


def review(findings: list[str]) -> str:
    """A sub-agent: a program of its own, which knows the one that it is called in."""
    with Program("reviewer") as run:
        remarks = ask(f"What is missing? {findings}", run.step("look"))
        return ask(f"In one sentence: {remarks}", run.step("shorten", final=True))


def main() -> None:
    with Program("trip-planner", deadline_s=60) as run:
        plan = ask("Plan a trip.", run.step("plan", remaining=2))

        def search(city: str) -> str:
            hints = run.step(f"search {city}", join="answer", width=len(CITIES), remaining=1)
            return ask(f"{plan}\nWhat is there to see in {city}?", hints)

        with ThreadPoolExecutor() as pool:
            findings = list(pool.map(search, CITIES))
        remarks = review(findings)
        print(ask(f"{plan}\n{findings}\n{remarks}\nAnswer.", run.step("answer", output_tokens=200, final=True), 200))


if __name__ == "__main__":
    main()
