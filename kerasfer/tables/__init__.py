"""The tables of the papers: the published value and the measured one for each cell.

A table is a YAML file. `cells` reads it, `filling` finds the results, `running` trains what is
missing, `text` and `figures` show the table, and `results` records the numbers of a run without its
folder.
"""

from kerasfer.tables.cells import load_table
from kerasfer.tables.filling import fill_table, list_tables
from kerasfer.tables.results import write_summary
from kerasfer.tables.running import run_missing
from kerasfer.tables.text import render_table

__all__ = [
    "fill_table",
    "list_tables",
    "load_table",
    "render_table",
    "run_missing",
    "write_summary",
]
