"""The example of the river, in a short form."""
