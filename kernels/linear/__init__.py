"""Many small linear layers in one kernel each way."""
