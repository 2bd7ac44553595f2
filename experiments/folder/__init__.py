"""Run folders: where things lie, how files are written, who may write, what a run ran on."""
