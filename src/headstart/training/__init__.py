"""From images and a plan to a trained head: features, solvers, and the model they make up."""
