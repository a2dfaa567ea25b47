"""Sending queued messages: claims, rate limits, one sender for each mailbox, group commits."""
