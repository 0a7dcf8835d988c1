"""Bad input by the thousand: generated from the schemas, judged by what must and what may be accepted."""
