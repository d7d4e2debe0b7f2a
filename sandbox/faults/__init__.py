"""What goes wrong on purpose, and for whom."""
