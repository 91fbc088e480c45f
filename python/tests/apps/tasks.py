"""A Celery application that logs an event at its import, and one for each task."""

import os
import uuid

from celery import Celery

from cns_events import EventLogger

ORGANIZATION = os.environ["TEST_ORGANIZATION"]
BOM = uuid.uuid4()
app = Celery("tasks", broker=os.environ["TEST_CELERY_BROKER"])
app.conf.task_default_queue = f"celery-{ORGANIZATION}"
app.conf.worker_hijack_root_logger = False
app.conf.broker_connection_retry_on_startup = True
app.conf.control_queue_ttl = 10
if os.environ.get("TEST_BEAT"):
    app.conf.beat_schedule = {"beat": {"task": "tasks.work", "schedule": 0.2, "args": (0,)}}
logger = EventLogger()
logger.log_event("imported", BOM, ORGANIZATION, {"pid": os.getpid()})


@app.task(name="tasks.work")
def work(number: int) -> None:
    """Log an event."""
    assert logger.log_event("worked", BOM, ORGANIZATION, {"number": number, "pid": os.getpid()})
