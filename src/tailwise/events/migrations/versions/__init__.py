"""One module per step; the newest is what `tailwise.events._tables` describes."""
