"""The stream agents: ingest turns raw deliveries into events."""
