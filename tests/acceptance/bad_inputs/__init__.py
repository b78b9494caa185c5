"""Wrong requests as data: one module for each class, each a list of named cases."""
