"""Temporal: deduplication keys for the events of an activity.

An activity may run more than once. With the same ``event_id`` for each attempt its events are stored once::

    logger.log_stage_started(bom_id, "parsing", organization_id, event_id=event_id("stage_started"))

In workflow code an ``EventLogger`` publishes nothing: a replay would log again.
"""

from __future__ import annotations

import hashlib

from temporalio import activity

_MAX_CHARACTERS = 255


def event_id(name: str) -> str:
    """Return the key of an event of the running activity: the same for each of its attempts.

    ``name`` tells the events of one activity apart.
    """
    info = activity.info()
    # A standalone activity has no workflow.
    run = info.workflow_run_id or getattr(info, "activity_run_id", None) or info.workflow_id
    return shortened(f"{run}/{info.activity_id}/{name}")


def shortened(key: str) -> str:
    """Return a key of at most 255 characters: the end of a longer one is replaced by its hash."""
    if len(key) <= _MAX_CHARACTERS:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{key[: _MAX_CHARACTERS - len(digest) - 1]}/{digest}"
