"""Many runs at once: from a list of jobs to their results, by one worker or many."""
