#!/usr/bin/env python3
"""Watches a tenant's events as they are stored, and goes on where it was after any break. Standard library alone.

    CNS_URL=http://127.0.0.1:8080 CNS_TOKEN=… python3 watch.py ['type=error,risk_alert']
"""

import http.client
import json
import os
import sys
import time
import urllib.parse


def watch(url, token, query=""):
    """Yields each event once, for as long as the token is valid."""
    address = urllib.parse.urlsplit(url)
    connect = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    after, pause = None, 1.0
    while True:
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        if after:
            headers["Last-Event-ID"] = after
        try:
            # The server sends something every 15 s.
            connection = connect(address.netloc, timeout=45)
            connection.request("GET", f"{address.path.rstrip('/')}/v1/stream?{query}", headers=headers)
            response = connection.getresponse()
            if response.status in (400, 401, 403):
                raise SystemExit(f"{response.status}: {json.load(response)['detail']}")
            if response.status == 200:
                for name, position, data in events(response):
                    if name == "event":
                        yield data
                    elif name == "reset":
                        # What was missed has to be read in another way, for example from /v1/workflows.
                        print("some events were missed:", data["reason"], file=sys.stderr)
                    # Only now: the event was taken.
                    after = position
        except (OSError, http.client.HTTPException) as error:
            print("reconnecting:", error, file=sys.stderr)
        time.sleep(pause)


def events(response):
    """Yields (event, id, data) of a text/event-stream."""
    fields = {}
    for line in response:
        line = line.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "event" in fields:
                yield fields["event"], fields.get("id"), json.loads(fields["data"])
            fields = {}


if __name__ == "__main__":
    for event in watch(os.environ["CNS_URL"], os.environ["CNS_TOKEN"], *sys.argv[1:2]):
        print(json.dumps(event), flush=True)
