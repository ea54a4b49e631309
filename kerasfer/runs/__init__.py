"""Run folders: their files, locks and contents.

`folder` defines the names of the files, `opening` checks and locks a folder for a training,
`checkpoints` saves and restores the state of a training, and `finding` locates the model and the
recipe of a run.
"""
