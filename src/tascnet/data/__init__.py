"""Files on disk -> samples, and samples -> batches: what the network is trained and measured on."""
