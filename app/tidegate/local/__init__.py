"""The embedded Postgres and the demo."""
