"""Colours of all pictures, and how their texts are read."""

import matplotlib


# Okabe and Ito's colours, told apart by colour-blind readers (https://jfly.uni-koeln.de/color/).
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#999999"
LINES = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# For functions that draw names of a user's: a dollar sign in them is one, and begins no formula.
no_formulas = matplotlib.rc_context({"text.parse_math": False})
