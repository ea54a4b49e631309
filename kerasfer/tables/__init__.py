"""The papers' tables: which run fills each cell, what the paper says, what came out.

A table is a YAML file. `cells` reads it, `filling` finds the runs or makes them, `text` and
`figures` show it, `results` keeps the numbers of a run without its folder.
"""

from kerasfer.tables.cells import load_table
from kerasfer.tables.filling import fill_table, list_tables, run_missing
from kerasfer.tables.results import write_summary
from kerasfer.tables.text import render_table

__all__ = [
    "fill_table",
    "list_tables",
    "load_table",
    "render_table",
    "run_missing",
    "write_summary",
]
