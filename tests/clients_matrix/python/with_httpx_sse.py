"""httpx-sse leaves it to its user to connect again."""

import time

import httpx
from httpx_sse import connect_sse
from tell import PAUSE, URL, tell

last = ""
with httpx.Client(timeout=None) as client:
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        try:
            with connect_sse(client, "GET", URL, headers=headers) as source:
                for event in source.iter_sse():
                    last = event.id
                    tell(event.data, event.id)
        except httpx.TransportError:
            pass
        time.sleep(PAUSE)
