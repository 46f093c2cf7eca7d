"""sseclient-py reads the answer of requests, and leaves it to its user to connect again."""

import time

import requests
from sseclient import SSEClient
from tell import PAUSE, URL, tell

last = ""
while True:
    headers = {"Last-Event-ID": last} if last else {}
    try:
        for event in SSEClient(requests.get(URL, stream=True, headers=headers)).events():
            last = event.id
            tell(event.data, event.id)
    except requests.RequestException:
        pass
    time.sleep(PAUSE)
