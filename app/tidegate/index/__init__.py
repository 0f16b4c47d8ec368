"""Change events to chunk tables."""
