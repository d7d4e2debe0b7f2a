"""The shared circuit breaker."""
