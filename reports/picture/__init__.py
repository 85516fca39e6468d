"""What a reader looks at: the page beside the images, and its paper form."""
