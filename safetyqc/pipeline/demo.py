"""The configuration of `safetyqc demo`: everything on the embedded model and judge, small enough for a minute."""

from __future__ import annotations

from pathlib import Path

from safetyqc.config import Config, DedupSettings, GenerateSettings, JudgeSettings, ModelSettings, RewriteSettings
from safetyqc.local import SLOTS
from safetyqc.pipeline.choices import EMBEDDED

CATEGORIES = 9


def demo_config(folder: Path, per_category: int) -> Config:
    """Settings for a run in `folder` that writes `per_category` conversations in each bundled category."""
    return Config(
        run=folder,
        models=ModelSettings(concurrency=SLOTS),
        generate=GenerateSettings(count=max(per_category, 1) * CATEGORIES, model=EMBEDDED, turns=1, redraws=1),
        judge=JudgeSettings(models=(EMBEDDED,)),
        dedup=DedupSettings(),
        rewrite=RewriteSettings(model=EMBEDDED, rounds=1, limit=12),
    )
