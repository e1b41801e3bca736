"""The CDK stack: one construct per part, in the order in which a run flows through them."""
