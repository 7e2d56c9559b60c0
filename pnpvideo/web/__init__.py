"""The web page: it takes settings, queues runs and shows results. Does not know about sampling."""
