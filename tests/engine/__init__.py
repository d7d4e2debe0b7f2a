"""The outbound engine under every interleaving, and under a crash at every step."""
