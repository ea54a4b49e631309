"""Everything about a run folder: its files, its lock, and what is written into it.

`folder` names the files, `opening` decides who may train, `checkpoints` holds what is needed to
resume, and `finding` turns what a user names into a model and its recipe.
"""
