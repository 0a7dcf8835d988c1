"""Foreign kinds: one slim struct per kind, with just the fields that plans read."""
