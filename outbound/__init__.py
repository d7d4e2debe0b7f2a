"""The engine: store, claim, call, retry, settle. Knows no provider and no tenant."""
