"""One file per provider: a verifier and a parser."""
