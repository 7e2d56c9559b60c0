"""Grid search of options on a source. Needs the extra `[eval]` only for networks as measures."""
