"""The project's settings, and the shop."""

from integrations_project.settings import *  # noqa: F403
from integrations_project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "examples.shop"]
ROOT_URLCONF = "examples.shop.site_urls"
