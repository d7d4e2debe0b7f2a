from django.urls import path

from bench.bare import views

urlpatterns = [path("rows", views.insert), path("events", views.receive)]
