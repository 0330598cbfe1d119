"""The networks of the paper's appendix tables, and a ResNet."""
