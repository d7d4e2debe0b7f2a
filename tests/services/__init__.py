"""Real servers for the tests: found, or started for one session on their own ports."""
