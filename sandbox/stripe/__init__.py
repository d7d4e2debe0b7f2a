"""Stripe, as of API version 2023-10-16. https://docs.stripe.com/api"""
