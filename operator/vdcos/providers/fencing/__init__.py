"""Fencing: being sure that a host is down before anything of it runs elsewhere.

``contract`` is all that the author of a power switch needs; ``fence`` decides what to do next and what counts as proof.
The built-in power switches talk to the world and are in ``vdcos.runtime.providers``.
"""
