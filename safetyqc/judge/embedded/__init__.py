"""The embedded judge: conversation in, calibrated verdicts out, with no model and no key."""
