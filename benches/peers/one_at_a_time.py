"""What CNS has today, as a worker: one event, one SQLAlchemy transaction, one ack.

    one_at_a_time.py AMQP_URL DATABASE_URL QUEUE

Runs until it is stopped.
"""

import json
import sys
from datetime import datetime
from uuid import UUID

import pika
from sqlalchemy import DateTime, String, Uuid, create_engine
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class EnrichmentEvent(Base):
    __tablename__ = "enrichment_events"

    # The server makes the row's id; SQLAlchemy wants a primary key that it knows.
    event_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    event_type: Mapped[str] = mapped_column(String(100))
    routing_key: Mapped[str] = mapped_column(String(255))
    bom_id: Mapped[UUID] = mapped_column(Uuid)
    tenant_id: Mapped[UUID] = mapped_column(Uuid)
    organization_id: Mapped[str | None]
    source: Mapped[str] = mapped_column(String(20))
    workflow_id: Mapped[str | None] = mapped_column(String(255))
    state: Mapped[dict] = mapped_column(JSONB)
    payload: Mapped[dict] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


def main(amqp_url: str, database_url: str, queue: str) -> None:
    engine = create_engine(database_url.replace("postgres://", "postgresql+psycopg://", 1))

    def store(channel, method, _properties, body) -> None:
        event = json.loads(body)
        row = EnrichmentEvent(
            event_id=event["event_id"],
            event_type=event["event_type"],
            routing_key=method.routing_key,
            bom_id=UUID(event["bom_id"]),
            tenant_id=UUID(event["tenant_id"]),
            organization_id=event.get("organization_id"),
            source=event["source"],
            workflow_id=event.get("workflow_id"),
            state=event["state"],
            payload=event["payload"],
            created_at=datetime.fromisoformat(event["created_at"]),
        )
        with Session(engine) as session:
            session.add(row)
            try:
                session.commit()
            except IntegrityError:
                session.rollback()  # stored already
        channel.basic_ack(method.delivery_tag)

    channel = pika.BlockingConnection(pika.URLParameters(amqp_url)).channel()
    channel.basic_qos(prefetch_count=100)
    channel.basic_consume(queue, store)
    channel.start_consuming()


if __name__ == "__main__":
    main(*sys.argv[1:])
