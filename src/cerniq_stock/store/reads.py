"""What can be looked at, expiry exact: one query each."""
