"""The additive models: `RNAM` and `NAM`, and what they are made of.

rnam, nam     the models
terms         the terms of an RNAM: what they read and contribute, and their state
recurrent     the networks of the recurrent terms
block         the residual block of a term's network
inputs        what each term reads: the gather map from columns to terms, and the masks
visits        what passes between steps, and the pattern of the visits, which the timing term reads
additive      what a model returns, and the sum over terms and members that makes it
streaming     the state that is carried from step to step and from chunk to chunk
description   names and units of the terms, kept with the parameters
"""
