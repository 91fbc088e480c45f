"""The query methods: the original's usage, row-level security, and the read API."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pool import Pool, eventually, on_database
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

import cns_events
from cns_events import EventLogger

LOGINS = {
    "superuser": None,
    "bypasses": "login bypassrls password 'p'",
    "reader": "login password 'p'",
    "neither": "login password 'p'",
}


@pytest.fixture(scope="module")
def sessions(pool: Pool) -> Iterator[dict[str, sessionmaker[Session]]]:
    """Sessions of logins that row-level security treats differently."""
    engines = {}
    for name, attributes in LOGINS.items():
        login = f"{pool.name}_{name}"
        if attributes is not None:
            pool.sql(f"create role {login} {attributes}")
            if name in ("reader", "bypasses"):
                pool.sql(f"grant {'authenticated' if name == 'reader' else 'service_role'} to {login}")
            pool.sql(f"grant select, insert on enrichment_events to {login}")
        url = on_database(pool.database_url, pool.name, None if attributes is None else login)
        engines[name] = create_engine(url.replace("postgres://", "postgresql+psycopg://"))
    yield {name: sessionmaker(engine) for name, engine in engines.items()}
    for name, engine in engines.items():
        engine.dispose()
        if LOGINS[name] is not None:
            pool.sql(f"drop owned by {pool.name}_{name} cascade; drop role {pool.name}_{name}")


@pytest.mark.parametrize("login", ["superuser", "bypasses", "reader"])
def test_the_original_example_runs_unchanged(
    login: str, sessions: dict[str, sessionmaker[Session]], configured: Pool, organization: str, bom_id: uuid.UUID
) -> None:
    db = sessions[login]()
    logger = EventLogger(db)
    event = logger.log_processing_started(
        bom_id=bom_id, organization_id=organization, workflow_id="enrich-1", source="customer", total_items=100
    )
    events = logger.get_events_by_bom(bom_id)
    assert event is not None
    assert [stored.event_id for stored in events] == [event.event_id]
    assert (events[0].payload["total_items"], events[0].bom_id, events[0].source) == (100, bom_id, "customer")
    assert [stored.event_id for stored in logger.get_events_by_workflow("enrich-1")][:1] == [event.event_id]
    assert db.execute(text("select current_user = session_user")).scalar()
    db.close()


def test_queries_filter_sort_and_limit(
    sessions: dict[str, sessionmaker[Session]], configured: Pool, organization: str, bom_id: uuid.UUID
) -> None:
    with sessions["reader"]() as db, EventLogger(db) as logger:
        for number in range(5):
            logger.log_error(bom_id, organization, f"m{number}")
            logger.log_stage_started(bom_id, "parsing", organization, f"w-{organization}")
        errors = logger.get_events_by_bom(bom_id, ["error"])
        assert [event.payload["error_message"] for event in errors] == ["m4", "m3", "m2", "m1", "m0"]
        assert len(logger.get_events_by_bom(str(bom_id), limit=3)) == 3
        assert len(logger.get_events_by_workflow(f"w-{organization}")) == 5
        assert [event.event_type for event in logger.get_recent_errors(organization, hours=1, limit=2)] == ["error"] * 2
        assert logger.get_events_by_bom(uuid.uuid4()) == []


def test_another_instance_names_the_organization(
    sessions: dict[str, sessionmaker[Session]],
    configured: Pool,
    organization: str,
    bom_id: uuid.UUID,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cns_events._read_database._said", set())
    EventLogger().log_error(bom_id, organization, "m")
    assert cns_events.flush(10)
    configured.stored(organization, 1)
    tenant = cns_events.tenant_of(organization)
    with sessions["reader"]() as db:
        reader = EventLogger(db)
        assert len(reader.get_events_by_bom(bom_id, organization_id=organization)) == 1
        assert len(reader.get_events_by_bom(bom_id, tenant_id=tenant)) == 1
        assert len(EventLogger(db, tenant_id=tenant).get_events_by_bom(bom_id)) == 1
        assert reader.get_events_by_bom(bom_id, organization_id="another") == []
        assert reader.get_events_by_bom(bom_id) == []
    assert "row-level security hides events from this login" in caplog.text
    with sessions["superuser"]() as db:
        assert len(EventLogger(db).get_events_by_bom(bom_id)) == 1


def test_the_callers_transaction_is_left_as_it_is(
    sessions: dict[str, sessionmaker[Session]], configured: Pool, organization: str, bom_id: uuid.UUID
) -> None:
    with sessions["neither"]() as db:
        db.execute(text("create temporary table mine (n int)"))
        logger = EventLogger(db, read_wait=0.2)
        logger.log_error(bom_id, organization, "m")
        assert logger.get_events_by_bom(bom_id) == []  # it may not read as a tenant, and row-level security hides the rest
        assert logger.get_events_by_bom("no uuid") == []
        db.execute(text("insert into mine values (1)"))
        db.commit()


def test_what_cannot_be_read_is_empty_and_logged(configured: Pool, caplog: pytest.LogCaptureFixture) -> None:
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert EventLogger(Session(engine)).get_events_by_bom(uuid.uuid4()) == []
    assert EventLogger(object()).get_recent_errors("org") == []  # type: ignore[arg-type]
    assert EventLogger().get_events_by_workflow("w") == []
    assert caplog.text.count("cannot read events") == 3


def test_an_instance_that_only_reads_does_not_wait(
    sessions: dict[str, sessionmaker[Session]], configured: Pool, bom_id: uuid.UUID
) -> None:
    with sessions["reader"]() as db:
        EventLogger(db).get_events_by_bom(bom_id)  # connects
        began = time.monotonic()
        assert EventLogger(db).get_events_by_bom(bom_id) == []
        assert time.monotonic() - began < 1


def test_the_read_api_serves_where_there_is_no_session(
    pool: Pool, organization: str, bom_id: uuid.UUID, tmp_path: Path
) -> None:
    secret = "s" * 40
    service = {
        **pool.env(),
        "DATABASE_URL": pool.database_url,
        "CNS_EVENTS__API__JWT_SECRET": secret,
        "CNS_EVENTS__API__LISTEN": "127.0.0.1:0",
        "CNS_EVENTS__HTTP__LISTEN": "127.0.0.1:0",
        "CNS_EVENTS__LOG__FORMAT": "json",
    }
    log = tmp_path / "serve.log"
    serve = subprocess.Popen([os.environ["CNS_EVENTS_BIN"], "serve"], env=service, stderr=log.open("wb"))
    try:
        eventually("it listens", lambda: re.search(r'"api":"[^"]+"', log.read_text()))
        address = re.search(r'"api":"([^"]+)"', log.read_text()).group(1)  # type: ignore[union-attr]
        code = """
import base64, hashlib, hmac, json, sys, time, uuid, cns_events
def part(value): return base64.urlsafe_b64encode(value).rstrip(b"=")
def token():
    claims = {"tenant_id": str(cns_events.tenant_of(sys.argv[2])), "aud": "authenticated", "exp": int(time.time()) + 60}
    text = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (text + b"." + part(hmac.digest(sys.argv[3].encode(), text, hashlib.sha256))).decode()
cns_events.configure(read_url=sys.argv[4], read_token=token)
logger = cns_events.EventLogger()
event = logger.log_error(sys.argv[1], sys.argv[2], "m", workflow_id=f"w/{sys.argv[2]}")
deadline = time.monotonic() + 20
while not (found := logger.get_events_by_bom(sys.argv[1], ["error", "risk_alert"])):
    assert time.monotonic() < deadline
    time.sleep(0.02)
[row] = found
assert (row.event_id, row.bom_id, row.payload) == (event.event_id, event.bom_id, event.payload)
assert row.created_at == event.created_at and row.tenant_id == event.tenant_id
assert [row.event_id for row in logger.get_events_by_workflow(f"w/{sys.argv[2]}")] == [event.event_id]
assert [row.event_id for row in logger.get_recent_errors(sys.argv[2])] == [event.event_id]
"""
        pool.python(code, str(bom_id), organization, secret, f"http://{address}/")
    finally:
        serve.terminate()
        serve.wait(30)


def test_the_selects_serve_an_async_session(
    sessions: dict[str, sessionmaker[Session]], configured: Pool, organization: str, bom_id: uuid.UUID
) -> None:
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    from cns_events.sqlalchemy import events_by_bom, events_by_workflow, recent_errors

    EventLogger().log_error(bom_id, organization, "m", workflow_id=organization)
    assert cns_events.flush(10)
    configured.stored(organization, 1)

    async def main() -> None:
        engine = create_async_engine(configured.database_url.replace("postgres://", "postgresql+psycopg://"))
        async with AsyncSession(engine) as db:
            for select in (events_by_bom(bom_id), events_by_workflow(organization), recent_errors(organization)):
                [event] = (await db.scalars(select)).all()
                assert event.payload == {"error_message": "m"}
        await engine.dispose()

    asyncio.run(main())
