"""Servers that speak as ERPs do, on this machine, with their stock in memory and their troubles."""
