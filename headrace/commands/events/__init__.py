"""`headrace events`: read the topics of the event log."""
