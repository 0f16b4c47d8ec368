"""Freshness and status."""
