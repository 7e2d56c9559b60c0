"""The web page: it takes settings, queues runs and shows results, and knows no sampling."""
