"""Images ranked by the quality to expect, without annotation."""
