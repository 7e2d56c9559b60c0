"""Options tried with one another on a source. Needs the extra `[eval]` only for its networks."""
