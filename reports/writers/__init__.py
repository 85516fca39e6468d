"""One module for each kind of result. Each defines WRITER, and its file's name is the kind's name."""
