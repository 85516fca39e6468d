"""One table for each language, `WORDS`: everything that results say to their readers in it."""
