"""The example on scikit-learn's tables, in a short form."""
