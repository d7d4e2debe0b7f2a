"""The control endpoint: how tests and demos steer the provider and read what it wrote down."""
