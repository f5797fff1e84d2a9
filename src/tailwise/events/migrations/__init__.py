"""Alembic's folder: how the log's tables came to be. `EventLog.open` runs what is missing."""
