"""One module per payment provider."""
