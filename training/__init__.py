"""Recipes and loops that make every weight file the project ships. Runs from a checkout, is not in the wheel."""
