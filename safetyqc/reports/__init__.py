"""Reports that people look at and can act on: one set of numbers (`summary`), several faces.

`snapshot` reads a run, `summary` counts it into the records of `schema`; `terminal`, `html`, `documents` (Markdown and
dataset card) and `table` (CSV) only draw, and `difference` sets two runs side by side. No model is called, nothing is
written to the run.
"""
