from django.urls import path

from examples.shop import views

app_name = "shop"

urlpatterns = [
    path("checkout", views.checkout, name="checkout"),
    path("orders/<int:order_id>", views.show_order, name="order"),
    path("orders/<int:order_id>/refund", views.refund, name="refund"),
]
