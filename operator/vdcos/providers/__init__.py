"""Every extension point's contract, and the built-in providers behind the same contract."""
