"""The example on real lab visits with a simulated outcome, in a short form."""
