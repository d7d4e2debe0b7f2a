"""What a message means to us: email, SMS and push, where they go, and what became of them."""
