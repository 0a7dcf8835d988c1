"""One module per vService: what it observes and what it plans. None imports another."""
