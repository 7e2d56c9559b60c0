"""Many runs, by one worker or several. It must not know how sampling works."""
