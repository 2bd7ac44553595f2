"""Pages of the documentation that are made from the code: commands, configs, parts, agents, the run folder.

`python -m duelenv.experiments.reference FOLDER` writes them; a test compares those of the repository with the code.
"""
