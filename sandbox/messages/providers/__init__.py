"""What each provider is told: one file for each."""
