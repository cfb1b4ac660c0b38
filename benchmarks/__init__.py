"""Measurements of speed, memory and seams, printed for the machine they run on."""
