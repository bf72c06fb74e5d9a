"""Talking to a Druid broker: client, query building, responses, and a simulated broker."""
