"""Rubrics: what is asked of a conversation. One YAML file a criterion, a set file that names them, and their reader.

Everything a judge needs (prompt, JSON schema, parse) and a report shows (columns, levels) derives from these files.
"""

from safetyqc.rubrics.criterion import Criterion, Example, Level
from safetyqc.rubrics.files import RubricProblem, copy_rubrics, validate_rubrics
from safetyqc.rubrics.rubric_set import DEFAULT_SET, MinScore, RubricSet, bundled_files, load_rubric_set
from safetyqc.rubrics.trial import Trial, test_rubric

__all__ = [
    "DEFAULT_SET",
    "Criterion",
    "Example",
    "Level",
    "MinScore",
    "RubricProblem",
    "RubricSet",
    "Trial",
    "bundled_files",
    "copy_rubrics",
    "load_rubric_set",
    "test_rubric",
    "validate_rubrics",
]
