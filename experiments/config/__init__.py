"""What a run is: its settings, read from YAML and overrides, its cells, and what it is known by."""
