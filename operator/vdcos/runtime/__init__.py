"""The shell: sources fill the store, the engine decides and asks, the port carries it out."""
