"""Rows of domain-owned Postgres tables, searchable by meaning within milliseconds of their commit."""
