"""A provider on this machine: speaks Stripe's wire format, misbehaves on demand, keeps a ledger.

It is a program of its own (`python -m sandbox`) and imports nothing of the apps; they do not import
it either. `sandbox.control.Sandbox` starts and steers one from Python. See docs/sandbox.md.
"""
