"""The subcommands, a file each, and the run that they share."""
