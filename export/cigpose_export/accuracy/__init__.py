"""How accurate a model is on an annotated data set: annotations, estimates, evaluation."""
