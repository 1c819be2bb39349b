"""Runs a coroutine from code that isn't one, wherever that code itself runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor, wait


def run_async(make: Callable[[], Coroutine[None, None, bool]]) -> bool:
    """Run a coroutine to its end, also where a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make())
    loops: list[asyncio.AbstractEventLoop] = []

    async def noted() -> bool:
        loops.append(asyncio.get_running_loop())
        return await make()

    with ThreadPoolExecutor(1, "propsync") as thread:
        running = thread.submit(lambda: asyncio.run(noted()))
        try:
            # In short waits: a signal that another thread was given is only seen between them.
            while wait([running], timeout=0.2).not_done:
                pass
            return running.result()
        except KeyboardInterrupt:
            # The rows under way belong to the checkpoint that the caller is about to close.
            for loop in loops:
                _cancel_all(loop)
            wait([running])
            raise


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    def cancel() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    loop.call_soon_threadsafe(cancel)
