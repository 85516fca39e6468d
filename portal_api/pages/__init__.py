"""Pages for people, rendered here: they need no script, and a form on each does what the REST interface does."""
