"""A WSGI service that logs an event at its import, and one for each request."""

import os
import sys
import uuid

from cns_events import EventLogger

ORGANIZATION = os.environ["TEST_ORGANIZATION"]
BOM = uuid.uuid4()
logger = EventLogger()
if not logger.log_event("imported", BOM, ORGANIZATION, {"pid": os.getpid()}):
    sys.exit("not logged")


def app(environ, start_response):
    """Log an event."""
    event = logger.log_event("requested", BOM, ORGANIZATION, {"pid": os.getpid()})
    start_response("200 OK" if event else "500 Lost", [("content-type", "text/plain")])
    return [str(event).encode()]
