"""Providers on this machine: Stripe, and those of email, SMS and push. They speak the providers'
wire formats, misbehave on demand and keep a ledger.

It is a program of its own (`python -m sandbox`) and imports nothing of the apps; they do not import
it either. `sandbox.control.Sandbox` starts and steers one from Python. See docs/sandbox.md.
"""
