"""Whether shortened prompts get answers as good: holdout, shadow pairs, and the fall-back to audit.

The pipeline calls `gateway.quality.guard.QualityGuard`, and `terse quality` the report; the rest is theirs.
"""
