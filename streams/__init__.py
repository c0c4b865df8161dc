"""Kafka: the topics, the event producer, the batch consumer."""
