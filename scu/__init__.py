"""The sender: brings results to destinations, and files to any AE that the command line names."""
