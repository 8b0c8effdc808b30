"""The examples in a short form."""
