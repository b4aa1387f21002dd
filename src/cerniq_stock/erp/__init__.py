"""ERPs: what is asked of them over the wire, and how it is read."""
