"""A FastAPI service, as the documentation shows one."""

import os
import uuid
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

import cns_events
from cns_events import EventLogger

ORGANIZATION = os.environ["TEST_ORGANIZATION"]
BOM = uuid.uuid4()
EventLogger().log_event("imported", BOM, ORGANIZATION, {"pid": os.getpid()})


@asynccontextmanager
async def lifespan(app: FastAPI):
    """Configure at the start, and close at the end."""
    cns_events.configure(app_id="asgi")
    yield
    await cns_events.aclose(5)


app = FastAPI(lifespan=lifespan)


def event_logger() -> EventLogger:
    """Return the logger of a request."""
    return EventLogger()


@app.get("/")
async def log(logger: EventLogger = Depends(event_logger)) -> str:
    """Log an event."""
    return str(logger.log_event("requested", BOM, ORGANIZATION, {"pid": os.getpid()}))
