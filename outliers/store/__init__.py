"""Where models are kept: one protocol over a directory or S3, and the executor's local mirror of it."""
