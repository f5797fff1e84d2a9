"""Assignments and the event log in; effects, guardrails and decisions out."""
