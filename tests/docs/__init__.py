"""What is said about the product is complete and true: tables, links, commands, examples, the site."""
