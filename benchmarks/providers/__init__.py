"""Who does the work: RNAM, the published forms, what torch.compile makes, other packages."""
