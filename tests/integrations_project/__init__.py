"""The wiring: settings, checks, processes that refuse to start, logs, reports, probes."""
