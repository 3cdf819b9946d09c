"""What the fronts of one daemon ask and tell each other, where there are several."""
