"""Traces of messages for OpenTelemetry, made of events in the admin service: nothing of it on mail's way."""
