"""Comparisons whose sides are points: cost over growth, and speed over load. Each has a plot."""
