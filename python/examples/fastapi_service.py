"""A FastAPI service: configured at its start, closed at its end.

uvicorn fastapi_service:app
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException

import cns_events
from cns_events import EventLogger

ORGANIZATION = os.environ.get("ORGANIZATION", "org-123")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Refuse to start with a configuration that cannot work; send what is left at the end."""
    cns_events.configure(app_id="cns-service")
    yield
    await cns_events.aclose(5)


app = FastAPI(lifespan=lifespan)


def event_logger() -> EventLogger:
    """Return the logger of a request. With a session it can query: ``EventLogger(db)``."""
    return EventLogger(source="staff")


@app.post("/boms/{bom_id}/pause", status_code=202)
async def pause(bom_id: uuid.UUID, reason: str, logger: Annotated[EventLogger, Depends(event_logger)]) -> dict[str, str]:
    """Pause a workflow. The call takes microseconds, and fits into async code."""
    event = logger.log_workflow_paused(bom_id, f"enrich-{bom_id}", ORGANIZATION, reason=reason)
    if event is None:
        raise HTTPException(500, "the event was not accepted: the log has the reason")
    return {"event_id": event.event_id}


@app.get("/readyz")
async def readyz() -> dict[str, object]:
    """Report the publisher. An outage of the broker is not this service's: events wait."""
    return {"outage": cns_events.outage(), "waiting": cns_events.stats().waiting}
