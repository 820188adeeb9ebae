"""What a deployment costs: accuracy measured, expected without labels, by subgroup; labels needed."""
