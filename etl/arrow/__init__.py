"""What several stages need of Arrow: columns of JSON values, and JSON on its way through columns of text."""
