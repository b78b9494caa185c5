"""The documentation site: reference pages made of the code, and links that work in the site as in the repository."""
