"""From a model and a table of faces to scores: evaluation, calibration, robustness, subgroups, attention."""
