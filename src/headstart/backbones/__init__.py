"""Pre-trained networks, from any zoo, as blocks in order from pixels to one feature vector."""
