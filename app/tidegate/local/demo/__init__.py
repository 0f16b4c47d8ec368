"""The demonstration: three domains, and the main job on them, live and measured."""
