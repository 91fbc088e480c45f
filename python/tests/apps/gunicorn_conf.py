"""Settings of gunicorn for the tests."""


def post_worker_init(worker):
    """Log that a worker handles signals: gunicorn loses one that comes before."""
    worker.log.info("Worker ready")
