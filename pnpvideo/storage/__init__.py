"""Results that outlive a step, in memory and on disk. Imports no model and no sampling."""
