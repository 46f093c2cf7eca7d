"""httpx-sse leaves it to its user to connect again."""

import os
import time

import httpx
from httpx_sse import connect_sse
from tell import PAUSE, URL, tell

last = ""
is_http2 = os.environ["SPEAKS"] in ("h2", "h2c")
with httpx.Client(timeout=None, http1=not is_http2, http2=is_http2) as client:
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
