"""The tests, as a package so that they can share strategies and stand-ins."""
