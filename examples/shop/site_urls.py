"""The project's addresses, and the shop's."""

from django.urls import include, path

urlpatterns = [
    path("", include("integrations_project.urls")),
    path("shop/", include("examples.shop.urls")),
]
