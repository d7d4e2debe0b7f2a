"""Providers that carry messages: email, SMS and push, each under the path of its name."""
