"""The HTTP API and the page over the projections."""
