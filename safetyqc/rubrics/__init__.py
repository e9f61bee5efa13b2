"""Rubrics: what is asked of a conversation. One YAML file a criterion, a set file that names them, and their reader.

Everything a judge needs (prompt, JSON schema, parse) and a report shows (columns, levels) derives from these files.
"""

from safetyqc.rubrics.criterion import Criterion, Example, Level
from safetyqc.rubrics.rubric_set import DEFAULT_SET, MinScore, RubricSet, load_rubric_set

__all__ = ["DEFAULT_SET", "Criterion", "Example", "Level", "MinScore", "RubricSet", "load_rubric_set"]
