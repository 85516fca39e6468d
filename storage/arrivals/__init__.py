"""From the spool to rows: what came is found, shared and brought in."""
