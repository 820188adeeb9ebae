"""Watching a stream of patients after go-live."""
