"""What is trained, when and how fast: phases, strategies and their names."""
