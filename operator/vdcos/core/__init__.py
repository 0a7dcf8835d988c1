"""The vocabulary of decisions: what a plan may look at, what it may ask for, and the words for saying so."""
