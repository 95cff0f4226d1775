"""What a feature is: logit-lens statistics and contexts."""
