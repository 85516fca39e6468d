"""What was asked beside images, by either side: durable files first, then their rows."""
