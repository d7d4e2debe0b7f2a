"""One address per source, with and without a slash at its end."""

from __future__ import annotations

from django.urls import re_path

from webhooks.views import receive

app_name = "webhooks"
urlpatterns = [re_path(r"^(?P<source>[^/]+)/?\Z", receive, name="receive")]
