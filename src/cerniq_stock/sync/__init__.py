"""Brings the stock of a tenant in line with its ERP: fetch, compare, resolve, apply, log."""
