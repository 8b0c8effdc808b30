"""The example of remifentanil, in a short form."""
