"""One timer serves all deadlines."""

import asyncio
from dataclasses import dataclass, field

from proxy_rig import within

from router.proxy.deadlines import NEVER, Deadlines


@dataclass(eq=False)
class Item:
    deadline_s: float = NEVER
    passed: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    def deadline_passed(self) -> None:
        self.deadline_s = NEVER
        self.passed.set()
        if self.error is not None:
            raise self.error


async def test_what_is_due_is_told_and_nothing_else():
    deadlines = Deadlines(0.001)
    due, later, gone = Item(0.0), Item(), Item(0.0)
    for item in (due, later, gone):
        deadlines.add(item)
    deadlines.discard(gone)
    await within(due.passed.wait())
    assert not later.passed.is_set()
    assert not gone.passed.is_set()
    later.deadline_s = 0.0
    await within(later.passed.wait())
    deadlines.stop()


async def test_a_fault_in_one_does_not_stop_the_others():
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    deadlines = Deadlines(0.001)
    broken, sound = Item(0.0, error=ZeroDivisionError()), Item()
    deadlines.add(broken)
    deadlines.add(sound)
    await within(broken.passed.wait())
    sound.deadline_s = 0.0
    await within(sound.passed.wait())
    assert [type(error) for error in errors] == [ZeroDivisionError]
    deadlines.stop()


async def test_the_timer_stops_when_there_is_nothing_to_watch_and_starts_again():
    deadlines = Deadlines(0.001)
    first, second = Item(0.0), Item(0.0)
    deadlines.add(first)
    await within(first.passed.wait())
    deadlines.discard(first)
    deadlines.stop()
    deadlines.add(second)
    await within(second.passed.wait())
    deadlines.stop()
