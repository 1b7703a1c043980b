"""A network on disk, by name or from elsewhere: opened, saved, shared."""
