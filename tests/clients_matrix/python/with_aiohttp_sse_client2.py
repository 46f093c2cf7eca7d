"""aiohttp-sse-client2 connects again where an answer has ended, and leaves it to its user where it was cut."""

import asyncio

import aiohttp
from aiohttp_sse_client2.client import EventSource
from tell import PAUSE, URL, tell


async def main() -> None:
    last = ""
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        try:
            async with EventSource(URL, headers=headers, timeout=aiohttp.ClientTimeout()) as source:
                async for event in source:
                    last = event.last_event_id
                    tell(event.data, event.last_event_id)
        except aiohttp.ClientError:
            await asyncio.sleep(PAUSE)


asyncio.run(main())
