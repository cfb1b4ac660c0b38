"""Recipes that make the files in `earthgen/roots`: the graded picture of the Earth and the planet's colours."""
