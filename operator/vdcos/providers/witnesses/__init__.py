"""Whether a host lives: what witnesses say, and the table of what that means."""
