"""Questions to hits to answers."""
