"""Many runs at once, by one worker or many. Knows no step of the method."""
