"""What each provider tells of its messages afterwards: one file for each."""
