"""What each service may spend: reserved before a call, settled after it."""
