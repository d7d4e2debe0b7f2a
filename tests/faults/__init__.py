"""Real processes, killed and frozen, and the promises that must hold all the same."""
