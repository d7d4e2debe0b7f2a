"""A shop: a checkout and a refund whose calls to the provider cannot be lost."""
