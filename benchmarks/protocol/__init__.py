"""How a piece of work is made, compared with float64, timed and weighed."""
