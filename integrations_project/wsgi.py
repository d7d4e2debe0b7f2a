"""The web process: `gunicorn integrations_project.wsgi`."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "integrations_project.settings")

from integrations_project.startup import refuse_misconfiguration

APP_LOAD_ERROR = 4  # gunicorn ends on this one, and starts a new worker after any other

application = get_wsgi_application()
refuse_misconfiguration(exit_code=APP_LOAD_ERROR)
