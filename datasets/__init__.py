"""Readers of real public imagery, and what training draws from it. Runs from a checkout, is not in the wheel."""
