"""All that knows diffusers' parts; it knows neither the sampling nor the files of a run."""
