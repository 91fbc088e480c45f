"""Queries over the read API (``cns-events serve``), where there is no database session."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from cns_events._reading import Query
from cns_events._settings import Settings

_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class StoredEvent:
    """A stored event, with the attributes of the table's row."""

    id: uuid.UUID
    event_id: str
    event_type: str
    routing_key: str | None
    bom_id: uuid.UUID
    tenant_id: uuid.UUID
    organization_id: str | None
    project_id: uuid.UUID | None
    user_id: uuid.UUID | None
    source: str
    workflow_id: str | None
    state: dict[str, Any]
    payload: dict[str, Any]
    created_at: datetime


def fetch(settings: Settings, query: Query) -> Sequence[StoredEvent]:
    """Return the rows of a query, as the tenant of the token."""
    path, parameters = _request(query.kind, query.arguments)
    token = settings.read_token() if callable(settings.read_token) else settings.read_token
    url = f"{(settings.read_url or '').rstrip('/')}{path}?{urlencode(parameters)}"
    if not url.startswith(("http://", "https://")):
        raise ValueError("read_url begins with http:// or https://")
    request = Request(url, headers={"accept": "application/json"})
    if token:
        request.add_header("authorization", f"Bearer {token}")
    with urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
        answer = json.load(response)
    return [_stored(row) for row in answer["events"]]


def _request(kind: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if kind == "bom":
        parameters = {"limit": arguments["limit"]}
        if arguments["event_types"] is not None:
            parameters["type"] = ",".join(arguments["event_types"])
        return f"/v1/boms/{quote(str(arguments['bom_id']), safe='')}/events", parameters
    if kind == "workflow":
        return f"/v1/workflows/{quote(arguments['workflow_id'], safe='')}/events", {"limit": arguments["limit"]}
    return "/v1/errors", {"hours": arguments["hours"], "limit": arguments["limit"]}


def _stored(row: dict[str, Any]) -> StoredEvent:
    def uuid_of(name: str) -> uuid.UUID | None:
        return None if row.get(name) is None else uuid.UUID(row[name])

    return StoredEvent(
        id=uuid.UUID(row["id"]),
        event_id=row["event_id"],
        event_type=row["event_type"],
        routing_key=row.get("routing_key"),
        bom_id=uuid.UUID(row["bom_id"]),
        tenant_id=uuid.UUID(row["tenant_id"]),
        organization_id=row.get("organization_id"),
        project_id=uuid_of("project_id"),
        user_id=uuid_of("user_id"),
        source=row["source"],
        workflow_id=row.get("workflow_id"),
        state=row["state"],
        payload=row["payload"],
        created_at=datetime.fromisoformat(row["created_at"].replace("Z", "+00:00")),
    )
