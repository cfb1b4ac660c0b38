"""Writers of whole regions to files: each resumable, atomic, and equal for equal arguments."""
