"""The engine: makes what a config describes, plays its cells in processes, stops and goes on."""
