"""Reports that people look at and can act on: one set of numbers (`summary`), several faces.

`snapshot` reads a run, without its texts (`seen`), and `summary` counts it into the records of `results.report`;
`terminal`, `html`, `documents` (Markdown and dataset card) and `spreadsheet` (CSV) only draw, and `diff` sets two runs
side by side. No model is called, nothing is
written to the run.
"""
