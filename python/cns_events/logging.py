"""Errors that the service logs, as events."""

from __future__ import annotations

import logging

from cns_events.logger import EventLogger


class ErrorEvents(logging.Handler):
    """Logs an ``error`` event for each record that has ``bom_id`` and ``organization_id`` in ``extra``::

        logging.getLogger("app").addHandler(ErrorEvents())
        logging.getLogger("app").error("supplier timed out", extra={"bom_id": bom_id, "organization_id": "org-123"})

    Records of this package are left out.
    """

    def __init__(self, events: EventLogger | None = None, level: int = logging.ERROR) -> None:
        super().__init__(level)
        self._events = events if events is not None else EventLogger()

    def emit(self, record: logging.LogRecord) -> None:
        """Log the event of a record."""
        bom_id = getattr(record, "bom_id", None)
        organization_id = getattr(record, "organization_id", None)
        if bom_id is None or organization_id is None or record.name.split(".")[0] == "cns_events":
            return
        try:
            message = record.getMessage()
        except Exception:
            self.handleError(record)
            return
        error_type = record.exc_info[0] if record.exc_info else None
        self._events.log_error(
            bom_id,
            organization_id,
            message,
            getattr(record, "error_code", None),
            None if error_type is None else {"exception": error_type.__name__},
            workflow_id=getattr(record, "workflow_id", None),
            logger=record.name,
        )
