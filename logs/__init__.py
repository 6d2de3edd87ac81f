"""What a line of a log looks like, the same for the server and the batch job."""
