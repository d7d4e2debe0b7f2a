"""What money means to us: customers, payments and refunds."""
