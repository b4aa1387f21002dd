"""The rules of stock: frozen data and pure functions, standard library only.

Nothing here reads a clock, makes an id, or waits. See `batch.decide_many` for the door.
"""
