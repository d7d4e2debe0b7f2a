"""A mail server that keeps what it gets: ESMTP, as much of it as a client needs."""
