"""Debezium: change events and the engine that delivers them."""
