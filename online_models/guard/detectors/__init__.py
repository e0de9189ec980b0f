"""One detector per file; each implements `online_models.guard.Detector`."""
