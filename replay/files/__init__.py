"""Files of events, items and users: formats, mappings, presets."""
