"""What the shop's visitors and clerks may ask for."""

from __future__ import annotations

from django import forms


class CheckoutForm(forms.Form):
    cart = forms.UUIDField(widget=forms.HiddenInput)
    email = forms.EmailField()
    amount = forms.IntegerField(min_value=50, max_value=100_000, help_text="In cents.")


class RefundForm(forms.Form):
    amount = forms.IntegerField(min_value=1, required=False, help_text="All when empty.")
