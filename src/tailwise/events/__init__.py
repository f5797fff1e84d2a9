"""Impressions, clicks and purchases in; a durable log out."""
