"""A store that several machines share, a folder or a bucket, and how one machine uses it."""
