"""Colours of all pictures."""

# Okabe and Ito's colours, told apart by colour-blind readers (https://jfly.uni-koeln.de/color/).
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#999999"
LINES = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
