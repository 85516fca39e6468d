"""Where things are kept: the database, the spool of received instances, the results, the queue of durable jobs."""
