"""A run as a JSON file, tables, pictures, and what is committed of it."""
