# One image for web, worker, beat and the one-shot migration.
FROM python:3.13-slim-bookworm AS packages
COPY requirements/run.lock /run.lock
RUN python -m venv /opt/holdfast \
    && /opt/holdfast/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement /run.lock

FROM python:3.13-slim-bookworm
ENV PATH=/opt/holdfast/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    STATE_DIR=/tmp \
    # Celery: SIGTERM begins the soft shutdown.
    REMAP_SIGTERM=SIGQUIT
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin holdfast
WORKDIR /app
COPY --from=packages /opt/holdfast /opt/holdfast
COPY manage.py gunicorn.conf.py ./
COPY outbound outbound
COPY webhooks webhooks
COPY payments payments
COPY notifications notifications
COPY api api
COPY integrations_project integrations_project
# The root file system is read-only later: compile now.
RUN python -m compileall -q .
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8000
CMD ["gunicorn", "--bind", "0.0.0.0:8000", "integrations_project.wsgi"]
