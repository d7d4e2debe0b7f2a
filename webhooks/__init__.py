"""The engine for words from outside: receive, verify, store, dispatch. Knows no tenant."""
