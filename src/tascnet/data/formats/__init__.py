"""Data formats: files of one layout -> samples."""
