"""The comparison on clinic visits, in a short form."""
