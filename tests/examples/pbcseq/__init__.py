"""The demo on clinic visits, in a short form."""
